// LibTorch's attention on NVIDIA GPUs: which of its kernels takes what, and where sequences begin.
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

/// FlashAttention; the memory-efficient kernel, which takes float32 and older GPUs; or neither.
enum class GpuKernel { none, flash, efficient };

/// Which takes these tensors: q [N, heads, D], k and v [N, kv heads, D]. Their device, dtype and D decide.
GpuKernel gpuKernelFor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// Where each sequence begins, and at last N: [sequences + 1], int32, on the device. Waits for nothing.
at::Tensor sequenceOffsets(at::IntArrayRef lengths, c10::Device device);

}  // namespace slimtune
