#include "linear_group.h"

#include "quantized_weight.h"

namespace slimtune {
namespace {

void floating(const at::Tensor& x, const char* name) {
  TORCH_CHECK(at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided, name,
              " must be a dense tensor of a floating dtype");
}

/// Its place in the list.
int64_t append(std::vector<at::Tensor>& tensors, const at::Tensor& x) {
  tensors.push_back(x);
  return static_cast<int64_t>(tensors.size()) - 1;
}

}  // namespace

void addLayers(Group& group, std::vector<at::Tensor>& tensors, int64_t rows, int64_t width, const LayerArguments& given) {
  const size_t count = given.parts.size();
  TORCH_CHECK(count > 0, "no weights");
  int64_t stored = 0;
  for (const int64_t part : given.parts) {
    TORCH_CHECK(part >= 1 && part <= 6, "a weight is stored in 1 to 6 tensors, not in ", part);
    stored += part;
  }
  TORCH_CHECK(static_cast<size_t>(stored) == given.weights.size(), "parts must add up to the ", given.weights.size(),
              " tensors of weights");
  TORCH_CHECK(given.biases.size() == count && given.a.size() == count && given.b.size() == count &&
                  given.scalings.size() == count && given.masks.size() == count,
              "biases, a, b, scalings and masks must be as many as the ", count, " weights");
  TORCH_CHECK(at::isFloatingType(group.compute), "cannot compute in ", group.compute);
  for (size_t i = 0, next = 0; i < count; next += given.parts[i++]) {
    const at::TensorList weight = given.weights.slice(next, given.parts[i]);
    checkWeight(weight);
    TORCH_CHECK(weightColumns(weight) == width, "expected a weight [out, ", width, "], got [", weightRows(weight), ", ",
                weightColumns(weight), "]");
    const int64_t out = weightRows(weight);
    Layer layer{.weight = static_cast<int64_t>(tensors.size()), .parts = given.parts[i]};
    for (const at::Tensor& part : weight) append(tensors, part);
    const auto optional = [&](const OptionalTensors& list) {
      const std::optional<at::Tensor> x = list.get(i);
      return x && x->defined() ? *x : at::Tensor();
    };
    if (const at::Tensor bias = optional(given.biases); bias.defined()) {
      floating(bias, "a bias");
      TORCH_CHECK(bias.dim() == 1 && bias.size(0) == out, "expected a bias [", out, "], got ", bias.sizes());
      layer.bias = append(tensors, bias);
    }
    const at::Tensor down = optional(given.a), up = optional(given.b), mask = optional(given.masks);
    TORCH_CHECK(down.defined() == up.defined(), "a and b come together");
    TORCH_CHECK(down.defined() || !mask.defined(), "a mask without a");
    if (down.defined()) {
      floating(down, "a");
      floating(up, "b");
      TORCH_CHECK(down.dim() == 2 && down.size(1) == width && up.dim() == 2 && up.size(0) == out &&
                      up.size(1) == down.size(0),
                  "expected a [r, ", width, "] and b [", out, ", r], got ", down.sizes(), " and ", up.sizes());
      layer.a = append(tensors, down);
      layer.b = append(tensors, up);
      layer.scaling = given.scalings[i];
      layer.rankBegin = group.ranks;
      layer.rank = down.size(0);
      group.ranks += layer.rank;
    }
    if (mask.defined()) {
      floating(mask, "a mask");
      TORCH_CHECK(mask.dim() == 2 && mask.size(0) == rows && mask.size(1) == width, "expected a mask [", rows, ", ",
                  width, "], got ", mask.sizes());
      layer.mask = append(tensors, mask);
      group.dropout = true;
    }
    group.layers.push_back(layer);
  }
}

void addResidual(Group& group, std::vector<at::Tensor>& tensors, int64_t rows, const at::Tensor& residual, double scale) {
  const size_t count = group.layers.size();
  TORCH_CHECK(count == 1, "a residual is added to one layer, not to ", count);
  TORCH_CHECK(residual.scalar_type() == at::kFloat || residual.scalar_type() == group.compute,
              "the residual must be float32 or of the compute dtype");
  const int64_t out = weightRows(at::TensorList(tensors).slice(group.layers[0].weight, group.layers[0].parts));
  TORCH_CHECK(residual.dim() == 2 && residual.size(0) == rows && residual.size(1) == out, "expected a residual [", rows, ", ",
              out, "], got ", residual.sizes());
  group.residual = append(tensors, residual);
  group.residualScale = scale;
}

}  // namespace slimtune
