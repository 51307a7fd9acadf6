// LibTorch's attention on NVIDIA GPUs: which of its kernels takes what, and where sequences begin.
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

/// What a layer does with its scores, q·kᵀ·scale: packed_attention's own arguments.
struct AttentionSpec {
  std::optional<double> scale;
  double softcap;
  int64_t window;
};

/// FlashAttention; the memory-efficient kernel, which takes float32 and older GPUs; or neither.
enum class GpuKernel { none, flash, efficient };

/// Which takes these tensors: q [N, heads, D], k and v [N, kv heads, D]. Their device, dtype and D decide, and whether the
/// scores are capped, which neither does.
GpuKernel gpuKernelFor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionSpec& spec);

/// Where each sequence begins, and at last N: [sequences + 1], int32, on the device. Waits for nothing.
at::Tensor sequenceOffsets(at::IntArrayRef lengths, c10::Device device);

}  // namespace slimtune
