// What leads to the input of linear layers.
#pragma once

#include <ATen/ATen.h>

#include <tuple>

namespace slimtune {

/// x / rms(x) · weight, computed in float32, in `dtype`; inverseRms [N] is kept for the backward pass. x [N, H].
at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype, at::Tensor& inverseRms);

/// The gradient of x, in its dtype, and where asked for the weight's.
at::Tensor rmsNormBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& inverseRms, at::Tensor* dWeight);

/// silu(gate) · up, [N, I]
at::Tensor gate(const at::Tensor& gate, const at::Tensor& up);

/// The gradients of gate and up.
std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up);

}  // namespace slimtune
