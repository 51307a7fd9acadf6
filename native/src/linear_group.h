// Linear layers that share an input, as one op is given them: checked, and in the flat list of tensors that autograd sees.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include "gate.h"
#include "norm.h"

namespace slimtune {

using OptionalTensors = c10::List<std::optional<at::Tensor>>;

/// What leads to the input of the products.
enum class Stage { plain, normed, gated };

/// Where a layer's tensors stand in the list; -1: it has none. The weight is stored in `parts` of them.
struct Layer {
  int64_t weight, parts, bias = -1, a = -1, b = -1, mask = -1;
  double scaling = 0;
  int64_t rankBegin = 0, rank = 0;  // its columns of the low-rank product
};

struct Group : torch::CustomClassHolder {
  Stage stage = Stage::plain;
  Norm norm;
  Activation activation = Activation::silu;
  at::ScalarType compute = at::kFloat;
  int64_t stageTensors = 0;             // the first of the list: x; or x, the norm's weight and bias; or gate and up
  int64_t residual = -1;
  double residualScale = 1;             // of the layer's output, before it is added to the residual
  int64_t ranks = 0;
  std::vector<Layer> layers;
  bool dropout = false;
};

/// The layers as JavaScript hands them over; lists run over the layers.
struct LayerArguments {
  at::TensorList weights;               // each in `parts` tensors (quantized_weight.h)
  at::IntArrayRef parts;
  const OptionalTensors &biases, &a, &b;
  at::ArrayRef<double> scalings;
  const OptionalTensors& masks;
};

/// Checks the layers, for an input [rows, width], adds them to the group and their tensors to the list.
void addLayers(Group& group, std::vector<at::Tensor>& tensors, int64_t rows, int64_t width, const LayerArguments& layers);

/// The same of what the output of the group's one layer is added to.
void addResidual(Group& group, std::vector<at::Tensor>& tensors, int64_t rows, const at::Tensor& residual, double scale);

}  // namespace slimtune
