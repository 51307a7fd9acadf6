// Linear layers that share an input, with LoRA on any of them, as one op: what leads to their input (a norm, a gated
// activation or nothing), the products, LoRA's own, and the residual that the result is added to.
//
// Against a composition of single ops this saves
// - memory: the normed or gated input is made again in the backward pass from what is kept anyway,
// - thin products: the A matrices of layers that share an input are multiplied at once,
// - passes over memory: every product is added to its target in place.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "linear_group.h"
#include "quantized_weight.h"
#include "weight_product.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::TensorList weightOf(const Layer& layer, at::TensorList tensors) { return tensors.slice(layer.weight, layer.parts); }

at::Tensor castTo(const at::Tensor& x, at::ScalarType dtype) { return x.scalar_type() == dtype ? x : x.to(dtype); }

/// The A matrices one below the other, [Σ r, in].
at::Tensor stackedA(const Group& group, at::TensorList tensors) {
  std::vector<at::Tensor> parts;
  for (const Layer& layer : group.layers) {
    if (layer.a >= 0) parts.push_back(tensors[layer.a]);
  }
  return castTo(parts.size() == 1 ? parts[0] : at::cat(parts), group.compute);
}

/// The input of the products, [N, in], in the compute dtype.
at::Tensor stageForward(const Group& group, at::TensorList tensors, at::Tensor& statistics) {
  const auto last = [&](int64_t count) { return group.stageTensors == count ? tensors[count - 1] : at::Tensor(); };
  switch (group.stage) {
    case Stage::normed:
      return normRows(group.norm, tensors[0], tensors[1], last(3), group.compute, statistics);
    case Stage::gated:
      return gateRows(group.activation, tensors[0], last(2));
    default:
      return tensors[0];
  }
}

/// The gradient of a leaf in float32, added in place where there is one already: a temporary as large as the weight
/// and a pass over it are saved. Returns what autograd is to add, nothing in that case.
at::Tensor weightGradient(const at::Tensor& weight, const at::Tensor& left, const at::Tensor& right) {
  if (weight.is_leaf() && weight.scalar_type() == left.scalar_type() && weight.grad().defined() &&
      weight.grad().is_contiguous() && !weight.grad().requires_grad()) {
    weight.mutable_grad().addmm_(left, right);
    return {};
  }
  return castTo(at::mm(left, right), weight.scalar_type());
}

struct FusedLinears : torch::autograd::Function<FusedLinears> {
  static variable_list forward(AutogradContext* context, at::TensorList tensors,
                               const c10::intrusive_ptr<Group>& shared) {
    at::AutoDispatchBelowADInplaceOrView below;
    const Group& group = *shared;
    at::Tensor statistics;  // the norm's
    const at::Tensor input = stageForward(group, tensors, statistics);
    const int64_t rows = input.size(0);
    at::Tensor low;  // [N, Σ r]
    if (group.ranks > 0) {
      low = at::empty({rows, group.ranks}, input.options());
      if (!group.dropout) {
        at::mm_out(low, input, stackedA(group, tensors).t());
      } else {
        for (const Layer& layer : group.layers) {
          if (layer.a < 0) continue;
          const at::Tensor dropped = layer.mask < 0 ? input : input * castTo(tensors[layer.mask], group.compute);
          at::Tensor part = low.narrow(1, layer.rankBegin, layer.rank);
          at::mm_out(part, dropped, castTo(tensors[layer.a], group.compute).t());
        }
      }
    }
    variable_list results;
    for (const Layer& layer : group.layers) {
      const at::TensorList weight = weightOf(layer, tensors);
      at::Tensor y;
      bool begun = false;
      const bool addsInPlace = group.residual >= 0 && group.residualScale == 1 &&
                               tensors[group.residual].scalar_type() == group.compute;
      if (addsInPlace) {
        y = tensors[group.residual].clone(at::MemoryFormat::Contiguous);
        begun = true;
      } else {
        y = at::empty({rows, weightRows(weight)}, input.options());
      }
      if (layer.bias >= 0) {
        const at::Tensor bias = castTo(tensors[layer.bias], group.compute);
        if (begun) {
          y.add_(bias);
        } else {
          y.copy_(bias.expand_as(y));
        }
        begun = true;
      }
      multiply(y, input, weight, begun);
      if (layer.a >= 0) {
        y.addmm_(low.narrow(1, layer.rankBegin, layer.rank), castTo(tensors[layer.b], group.compute).t(), 1,
                 layer.scaling);
      }
      const bool addsAfter = group.residual >= 0 && !addsInPlace;
      results.push_back(addsAfter ? at::add(tensors[group.residual], y, group.residualScale) : y);
    }
    variable_list saved = tensors.vec();
    if (group.residual >= 0) saved[group.residual] = at::Tensor();
    saved.push_back(low);
    saved.push_back(statistics);
    context->save_for_backward(std::move(saved));
    context->saved_data["group"] = c10::IValue::make_capsule(shared);
    context->set_materialize_grads(false);
    return results;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto shared = context->saved_data["group"].toCapsule();
    const Group& group = *static_cast<const Group*>(shared.get());
    const variable_list saved = context->get_saved_variables();
    const size_t count = saved.size() - 2;
    const at::Tensor& low = saved[count];
    const at::Tensor& statistics = saved[count + 1];
    variable_list result(count + 1);  // the last is the group's own place
    const auto needs = [&](int64_t tensor) { return tensor >= 0 && context->needs_input_grad(tensor); };

    bool inputTrains = false;
    for (int64_t i = 0; i < group.stageTensors; i++) inputTrains = inputTrains || needs(i);
    bool usesInput = false;  // a gradient of a weight is a product with the input
    for (const Layer& layer : group.layers) usesInput = usesInput || needs(layer.weight) || needs(layer.a);
    at::Tensor input;
    if (usesInput) {
      at::Tensor again;
      input = stageForward(group, saved, again);
    }

    at::Tensor dInput;  // [N, in]
    bool begun = false;
    const auto product = [&](const at::Tensor& left, at::TensorList weight) {
      if (!begun) dInput = at::empty({left.size(0), weightColumns(weight)}, left.options());
      multiplyTransposed(dInput, left, weight, begun);
      begun = true;
    };
    at::Tensor dLow;  // [N, Σ r]
    if (group.ranks > 0) dLow = at::zeros_like(low);
    for (size_t i = 0; i < group.layers.size(); i++) {
      if (!gradients[i].defined()) continue;
      const Layer& layer = group.layers[i];
      if (needs(group.residual)) result[group.residual] = gradients[i];
      const bool scaled = group.residualScale != 1;
      const at::Tensor dy = castTo(scaled ? gradients[i] * group.residualScale : gradients[i].contiguous(), group.compute);
      if (inputTrains) product(dy, weightOf(layer, saved));
      if (needs(layer.weight)) result[layer.weight] = weightGradient(saved[layer.weight], dy.t(), input);
      if (needs(layer.bias)) result[layer.bias] = castTo(at::sum(dy, {0}), saved[layer.bias].scalar_type());
      if (layer.a < 0) continue;
      const at::Tensor b = castTo(saved[layer.b], group.compute);
      at::Tensor dRank = dLow.narrow(1, layer.rankBegin, layer.rank);
      dRank.addmm_(dy, b, 0, layer.scaling);
      if (needs(layer.b)) {
        at::Tensor dB = at::empty(b.sizes(), dy.options());
        at::addmm_out(dB, dB, dy.t(), low.narrow(1, layer.rankBegin, layer.rank), 0, layer.scaling);
        result[layer.b] = castTo(dB, saved[layer.b].scalar_type());
      }
      if (!group.dropout) continue;
      const at::Tensor mask = layer.mask < 0 ? at::Tensor() : castTo(saved[layer.mask], group.compute);
      if (needs(layer.a)) {
        const at::Tensor dropped = mask.defined() ? input * mask : input;
        result[layer.a] = castTo(at::mm(dRank.t(), dropped), saved[layer.a].scalar_type());
      }
      if (inputTrains) {
        at::Tensor back = at::mm(dRank, castTo(saved[layer.a], group.compute));
        if (mask.defined()) back.mul_(mask);
        dInput.add_(back);
      }
    }
    if (group.ranks > 0 && !group.dropout) {
      if (usesInput) {
        const at::Tensor dA = at::mm(dLow.t(), input);  // [Σ r, in]
        for (const Layer& layer : group.layers) {
          if (needs(layer.a)) {
            result[layer.a] = castTo(dA.narrow(0, layer.rankBegin, layer.rank), saved[layer.a].scalar_type());
          }
        }
      }
      if (inputTrains && begun) dInput.addmm_(dLow, stackedA(group, saved));
    }
    if (!dInput.defined()) return result;
    switch (group.stage) {
      case Stage::normed: {
        const bool biased = group.stageTensors == 3;
        const NormGradients made = normBackward(dInput, saved[0], saved[1], biased ? saved[2] : at::Tensor(), statistics,
                                                group.norm.offset, needs(1), biased && needs(2));
        result[0] = made.x, result[1] = made.weight;
        if (biased) result[2] = made.bias;
        break;
      }
      case Stage::gated: {
        const bool beside = group.stageTensors == 2;
        const auto [dGate, dUp] = gateBackward(group.activation, dInput, saved[0], beside ? saved[1] : at::Tensor());
        result[0] = dGate;
        if (beside) result[1] = dUp;
        break;
      }
      default:
        result[0] = dInput;
    }
    return result;
  }
};

using MaybeTensor = std::optional<at::Tensor>;

void checkRows(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.dim() == 2 && at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided, name,
              " must be [N, width] of a floating dtype, got ", x.sizes(), " of ", x.scalar_type());
}

/// `stage`: what leads to the input, of which the first is [N, width].
std::vector<at::Tensor> apply(const c10::intrusive_ptr<Group>& group, const variable_list& stage, const MaybeTensor& residual,
                              double residualScale, const LayerArguments& layers) {
  const int64_t rows = stage[0].size(0);
  variable_list tensors = stage;
  group->stageTensors = static_cast<int64_t>(tensors.size());
  addLayers(*group, tensors, rows, stage[0].size(1), layers);
  if (residual && residual->defined()) addResidual(*group, tensors, rows, *residual, residualScale);
  return FusedLinears::apply(at::TensorList(tensors), group);  // autograd looks into this kind of list only
}

std::vector<at::Tensor> linears(const at::Tensor& x, const MaybeTensor& residual, double residualScale, at::TensorList weights,
                                at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a,
                                const OptionalTensors& b, at::ArrayRef<double> scalings, const OptionalTensors& masks) {
  checkRows(x, "x");
  const auto group = c10::make_intrusive<Group>();
  group->compute = x.scalar_type();
  return apply(group, {x}, residual, residualScale, {weights, parts, biases, a, b, scalings, masks});
}

std::vector<at::Tensor> normedLinears(const at::Tensor& x, const at::Tensor& normWeight, const MaybeTensor& normBias,
                                      c10::string_view kind, double eps, double offset, at::ScalarType compute,
                                      at::TensorList weights, at::IntArrayRef parts, const OptionalTensors& biases,
                                      const OptionalTensors& a, const OptionalTensors& b, at::ArrayRef<double> scalings,
                                      const OptionalTensors& masks) {
  checkRows(x, "x");
  const auto group = c10::make_intrusive<Group>();
  group->stage = Stage::normed;
  group->norm = normOf(kind, eps, offset, normWeight, normBias.value_or(at::Tensor()), x.size(1));
  group->compute = compute;
  variable_list stage{x, normWeight};
  if (normBias && normBias->defined()) stage.push_back(*normBias);
  return apply(group, stage, {}, 1, {weights, parts, biases, a, b, scalings, masks});
}

std::vector<at::Tensor> gatedLinears(c10::string_view activation, const at::Tensor& gate, const MaybeTensor& up,
                                     const MaybeTensor& residual, double residualScale, at::TensorList weights,
                                     at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a,
                                     const OptionalTensors& b, at::ArrayRef<double> scalings, const OptionalTensors& masks) {
  checkRows(gate, "gate");
  const auto group = c10::make_intrusive<Group>();
  group->stage = Stage::gated;
  group->activation = activationOf(activation);
  group->compute = gate.scalar_type();
  variable_list stage{gate};
  if (up && up->defined()) {
    TORCH_CHECK(gate.sizes() == up->sizes() && gate.scalar_type() == up->scalar_type() && up->layout() == at::kStrided,
                "gate and up must be alike, got ", gate.sizes(), " and ", up->sizes());
    stage.push_back(*up);
  }
  return apply(group, stage, residual, residualScale, {weights, parts, biases, a, b, scalings, masks});
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
#define SLIMTUNE_GROUP \
  "Tensor[] weights, int[] parts, Tensor?[] biases, Tensor?[] a, Tensor?[] b, float[] scalings, Tensor?[] masks"
  library.def("linears(Tensor x, Tensor? residual, float residual_scale, " SLIMTUNE_GROUP ") -> Tensor[]");
  library.def(
      "normed_linears(Tensor x, Tensor norm_weight, Tensor? norm_bias, str kind, float eps, float offset, ScalarType compute, "
      SLIMTUNE_GROUP ") -> Tensor[]");
  library.def("gated_linears(str activation, Tensor gate, Tensor? up, Tensor? residual, float residual_scale, " SLIMTUNE_GROUP
              ") -> Tensor[]");
#undef SLIMTUNE_GROUP
  library.impl("linears", c10::DispatchKey::CompositeImplicitAutograd, linears);
  library.impl("normed_linears", c10::DispatchKey::CompositeImplicitAutograd, normedLinears);
  library.impl("gated_linears", c10::DispatchKey::CompositeImplicitAutograd, gatedLinears);
}

}  // namespace
}  // namespace slimtune
