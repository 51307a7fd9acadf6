// FlashAttention on NVIDIA GPUs, as LibTorch brings it.
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

/// Whether it takes these tensors: q [N, heads, D], k and v [N, kv heads, D]. Their device, dtype and D decide.
bool flashAttends(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

}  // namespace slimtune
