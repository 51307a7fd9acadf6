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

#include "quantized_weight.h"
#include "stages.h"
#include "weight_product.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensors = c10::List<std::optional<at::Tensor>>;

enum class Stage { plain, normed, gated };

/// Where a layer's tensors stand in the list of inputs; -1: it has none. The weight is stored in `parts` of them.
struct Layer {
  int64_t weight, parts, bias = -1, a = -1, b = -1, mask = -1;
  double scaling = 0;
  int64_t rankBegin = 0, rank = 0;  // its columns of the low-rank product
};

struct Group : torch::CustomClassHolder {
  Stage stage = Stage::plain;
  double eps = 0;
  at::ScalarType compute = at::kFloat;
  int64_t residual = -1;
  int64_t ranks = 0;
  std::vector<Layer> layers;
  bool dropout = false;
};

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
at::Tensor stageForward(const Group& group, at::TensorList tensors, at::Tensor& inverseRms) {
  switch (group.stage) {
    case Stage::normed:
      return rmsNorm(tensors[0], tensors[1], group.eps, group.compute, inverseRms);
    case Stage::gated:
      return gate(tensors[0], tensors[1]);
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
    at::Tensor inverseRms;
    const at::Tensor input = stageForward(group, tensors, inverseRms);
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
      const bool addsInPlace = group.residual >= 0 && tensors[group.residual].scalar_type() == group.compute;
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
      results.push_back(group.residual >= 0 && !addsInPlace ? at::add(tensors[group.residual], y) : y);
    }
    variable_list saved = tensors.vec();
    if (group.residual >= 0) saved[group.residual] = at::Tensor();
    saved.push_back(low);
    saved.push_back(inverseRms);
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
    const at::Tensor& inverseRms = saved[count + 1];
    variable_list result(count + 1);  // the last is the group's own place
    const auto needs = [&](int64_t tensor) { return tensor >= 0 && context->needs_input_grad(tensor); };

    bool inputTrains = needs(0);
    if (group.stage != Stage::plain) inputTrains = inputTrains || needs(1);
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
      const at::Tensor dy = castTo(gradients[i].contiguous(), group.compute);
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
        at::Tensor dWeight;
        result[0] = rmsNormBackward(dInput, saved[0], saved[1], inverseRms, needs(1) ? &dWeight : nullptr);
        result[1] = dWeight;
        break;
      }
      case Stage::gated:
        std::tie(result[0], result[1]) = gateBackward(dInput, saved[0], saved[1]);
        break;
      default:
        result[0] = dInput;
    }
    return result;
  }
};

/// Checks the arguments and collects the defined tensors; `tensors` holds the stage's inputs already.
std::vector<at::Tensor> apply(c10::intrusive_ptr<Group> group, variable_list tensors, int64_t rows, int64_t width,
                              const std::optional<at::Tensor>& residual, at::TensorList weights,
                              at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a, const OptionalTensors& b,
                              at::ArrayRef<double> scalings, const OptionalTensors& masks) {
  const size_t count = parts.size();
  TORCH_CHECK(count > 0, "no weights");
  int64_t stored = 0;
  for (const int64_t part : parts) {
    TORCH_CHECK(part >= 1 && part <= 6, "a weight is stored in 1 to 6 tensors, not in ", part);
    stored += part;
  }
  TORCH_CHECK(static_cast<size_t>(stored) == weights.size(), "parts must add up to the ", weights.size(), " tensors of weights");
  TORCH_CHECK(biases.size() == count && a.size() == count && b.size() == count && scalings.size() == count &&
                  masks.size() == count,
              "biases, a, b, scalings and masks must be as many as the ", count, " weights");
  TORCH_CHECK(at::isFloatingType(group->compute), "cannot compute in ", group->compute);
  const auto floating = [](const at::Tensor& x, const char* name) {
    TORCH_CHECK(at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided, name, " must be a dense tensor of a floating dtype");
  };
  const auto append = [&](const at::Tensor& x) {
    tensors.push_back(x);
    return static_cast<int64_t>(tensors.size()) - 1;
  };
  if (residual && residual->defined()) {
    TORCH_CHECK(count == 1, "a residual is added to one layer, not to ", count);
    TORCH_CHECK(residual->scalar_type() == at::kFloat || residual->scalar_type() == group->compute,
                "the residual must be float32 or of the compute dtype");
    TORCH_CHECK(residual->dim() == 2 && residual->size(0) == rows && residual->size(1) == weights[0].size(0),
                "expected a residual [", rows, ", ", weights[0].size(0), "], got ", residual->sizes());
    group->residual = append(*residual);
  }
  for (size_t i = 0, next = 0; i < count; next += parts[i++]) {
    const at::TensorList weight = weights.slice(next, parts[i]);
    checkWeight(weight);
    TORCH_CHECK(weightColumns(weight) == width, "expected a weight [out, ", width, "], got [", weightRows(weight), ", ",
                weightColumns(weight), "]");
    const int64_t out = weightRows(weight);
    Layer layer{.weight = static_cast<int64_t>(tensors.size()), .parts = parts[i]};
    for (const at::Tensor& part : weight) append(part);
    const auto optional = [&](const OptionalTensors& list) {
      const std::optional<at::Tensor> x = list.get(i);
      return x && x->defined() ? *x : at::Tensor();
    };
    if (const at::Tensor bias = optional(biases); bias.defined()) {
      floating(bias, "a bias");
      TORCH_CHECK(bias.dim() == 1 && bias.size(0) == out, "expected a bias [", out, "], got ", bias.sizes());
      layer.bias = append(bias);
    }
    const at::Tensor down = optional(a), up = optional(b), mask = optional(masks);
    TORCH_CHECK(down.defined() == up.defined(), "a and b come together");
    TORCH_CHECK(down.defined() || !mask.defined(), "a mask without a");
    if (down.defined()) {
      floating(down, "a");
      floating(up, "b");
      TORCH_CHECK(down.dim() == 2 && down.size(1) == width && up.dim() == 2 && up.size(0) == out &&
                      up.size(1) == down.size(0),
                  "expected a [r, ", width, "] and b [", out, ", r], got ", down.sizes(), " and ", up.sizes());
      layer.a = append(down);
      layer.b = append(up);
      layer.scaling = scalings[i];
      layer.rankBegin = group->ranks;
      layer.rank = down.size(0);
      group->ranks += layer.rank;
    }
    if (mask.defined()) {
      floating(mask, "a mask");
      TORCH_CHECK(mask.dim() == 2 && mask.size(0) == rows && mask.size(1) == width, "expected a mask [", rows, ", ",
                  width, "], got ", mask.sizes());
      layer.mask = append(mask);
      group->dropout = true;
    }
    group->layers.push_back(layer);
  }
  return FusedLinears::apply(at::TensorList(tensors), group);  // autograd looks into this kind of list only
}

c10::intrusive_ptr<Group> groupOf(Stage stage, at::ScalarType compute) {
  auto group = c10::make_intrusive<Group>();
  group->stage = stage;
  group->compute = compute;
  return group;
}

void checkRows(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.dim() == 2 && at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided, name,
              " must be [N, width] of a floating dtype, got ", x.sizes(), " of ", x.scalar_type());
}

std::vector<at::Tensor> linears(const at::Tensor& x, const std::optional<at::Tensor>& residual, at::TensorList weights,
                                at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a, const OptionalTensors& b,
                                at::ArrayRef<double> scalings, const OptionalTensors& masks) {
  checkRows(x, "x");
  return apply(groupOf(Stage::plain, x.scalar_type()), {x}, x.size(0), x.size(1), residual, weights, parts, biases, a, b,
               scalings, masks);
}

std::vector<at::Tensor> normedLinears(const at::Tensor& x, const at::Tensor& norm, double eps, at::ScalarType compute,
                                      at::TensorList weights, at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a,
                                      const OptionalTensors& b, at::ArrayRef<double> scalings,
                                      const OptionalTensors& masks) {
  checkRows(x, "x");
  TORCH_CHECK(norm.dim() == 1 && norm.size(0) == x.size(1) && at::isFloatingType(norm.scalar_type()),
              "expected a norm weight [", x.size(1), "], got ", norm.sizes());
  auto group = groupOf(Stage::normed, compute);
  group->eps = eps;
  return apply(group, {x, norm}, x.size(0), x.size(1), {}, weights, parts, biases, a, b, scalings, masks);
}

std::vector<at::Tensor> gatedLinears(const at::Tensor& gate, const at::Tensor& up,
                                     const std::optional<at::Tensor>& residual, at::TensorList weights,
                                     at::IntArrayRef parts, const OptionalTensors& biases, const OptionalTensors& a, const OptionalTensors& b,
                                     at::ArrayRef<double> scalings, const OptionalTensors& masks) {
  checkRows(gate, "gate");
  TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(),
              "gate and up must be alike, got ", gate.sizes(), " and ", up.sizes());
  return apply(groupOf(Stage::gated, gate.scalar_type()), {gate, up}, gate.size(0), gate.size(1), residual, weights,
               parts, biases, a, b, scalings, masks);
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
#define SLIMTUNE_GROUP \
  "Tensor[] weights, int[] parts, Tensor?[] biases, Tensor?[] a, Tensor?[] b, float[] scalings, Tensor?[] masks"
  library.def("linears(Tensor x, Tensor? residual, " SLIMTUNE_GROUP ") -> Tensor[]");
  library.def("normed_linears(Tensor x, Tensor norm, float eps, ScalarType compute, " SLIMTUNE_GROUP ") -> Tensor[]");
  library.def("gated_linears(Tensor gate, Tensor up, Tensor? residual, " SLIMTUNE_GROUP ") -> Tensor[]");
#undef SLIMTUNE_GROUP
  library.impl("linears", c10::DispatchKey::CompositeImplicitAutograd, linears);
  library.impl("normed_linears", c10::DispatchKey::CompositeImplicitAutograd, normedLinears);
  library.impl("gated_linears", c10::DispatchKey::CompositeImplicitAutograd, gatedLinears);
}

}  // namespace
}  // namespace slimtune
