// Products with a weight as it is stored (quantized_weight.h): quantized, or in another dtype than the arithmetic's.
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

/// y = x · weightᵀ, or y += x · weightᵀ when it is to be added to; x [N, in], weight [out, in], y [N, out].
void multiply(at::Tensor& y, const at::Tensor& x, at::TensorList weight, bool add);

/// dx = dy · weight, or dx += dy · weight; dy [N, out], weight [out, in], dx [N, in].
void multiplyTransposed(at::Tensor& dx, const at::Tensor& dy, at::TensorList weight, bool add);

}  // namespace slimtune
