// Norms of rows: y = x̂ · (weight + offset) + bias, where
//   rms    x̂ = x / √(mean x² + eps)                    https://arxiv.org/abs/1910.07467
//   layer  x̂ = (x - mean x) / √(variance x + eps)      https://arxiv.org/abs/1607.06450
// Computed in float32, of float64 in float64.
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

struct Norm {
  bool centered = false;  // the layer norm
  double eps = 0, offset = 0;
};

/// Of "rms" or "layer"; refuses another kind, and a weight [W] or bias [W], which may be undefined, that does not fit.
Norm normOf(c10::string_view kind, double eps, double offset, const at::Tensor& weight, const at::Tensor& bias, int64_t width);

/// x [N, W] normed, in `dtype`; statistics [1 or 2, N] are kept for the backward pass. With a residual [N, W] it is
/// residual + scale · the normed rows, in the residual's dtype.
at::Tensor normRows(const Norm& norm, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    at::ScalarType dtype, at::Tensor& statistics, const at::Tensor& residual = {}, double scale = 1);

struct NormGradients {
  at::Tensor x, weight, bias;  // in their dtypes; the last two where asked for
};
NormGradients normBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, double offset, bool weightTrains, bool biasTrains,
                           double scale = 1);

}  // namespace slimtune
