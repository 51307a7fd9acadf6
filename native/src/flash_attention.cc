// slimtune::packed_attention on NVIDIA GPUs: FlashAttention (https://arxiv.org/abs/2307.08691) over sequences of unequal
// lengths, through LibTorch's dispatcher, so that nothing of CUDA is needed to compile this.
#include "flash_attention.h"

#include <torch/library.h>

#include <mutex>

namespace slimtune {
namespace {

/// Where each sequence begins, and at last N.
struct Offsets {
  at::Tensor begins;  // [sequences + 1], int32, on the device
  int64_t longest = 0;
};

/// Every layer asks for the same, forward and backward: the last answer is kept.
Offsets offsetsOf(at::IntArrayRef lengths, c10::Device device) {
  static std::mutex mutex;
  static std::vector<int64_t> lastLengths;
  static Offsets last;
  std::lock_guard<std::mutex> lock(mutex);
  if (last.begins.defined() && last.begins.device() == device && lengths.equals(lastLengths)) return last;
  at::Tensor begins = at::zeros({static_cast<int64_t>(lengths.size()) + 1}, at::kInt);
  int64_t longest = 0;
  for (size_t i = 0; i < lengths.size(); i++) {
    begins.mutable_data_ptr<int32_t>()[i + 1] = begins.const_data_ptr<int32_t>()[i] + static_cast<int32_t>(lengths[i]);
    longest = std::max(longest, lengths[i]);
  }
  last = {begins.pin_memory().to(device, /*non_blocking=*/true), longest};
  lastLengths = lengths.vec();
  return last;
}

/// -> out [N, heads, D] and what the backward pass needs of the softmax.
std::tuple<at::Tensor, at::Tensor> forwardCuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               at::IntArrayRef lengths) {
  const auto [begins, longest] = offsetsOf(lengths, q.device());
  const auto result = at::_flash_attention_forward(q, k, v, begins, begins, longest, longest, /*dropout_p=*/0,
                                                   /*is_causal=*/true, /*return_debug_mask=*/false);
  return {std::get<0>(result), std::get<1>(result)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backwardCuda(const at::Tensor& dOut, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& logSumExp,
                                                            at::IntArrayRef lengths) {
  const auto [begins, longest] = offsetsOf(lengths, q.device());
  const at::Tensor unused = at::empty({2}, q.options().dtype(at::kUInt64));  // of dropout's generator
  return at::_flash_attention_backward(dOut.contiguous(), q, k, v, out, logSumExp, begins, begins, longest, longest,
                                       /*dropout_p=*/0, /*is_causal=*/true, unused, unused);
}

TORCH_LIBRARY_IMPL(slimtune, CUDA, library) {
  library.impl("_packed_attention_forward", forwardCuda);
  library.impl("_packed_attention_backward", backwardCuda);
}

}  // namespace

bool flashAttends(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto dtype = q.scalar_type();
  if (!q.is_cuda() || (dtype != at::kHalf && dtype != at::kBFloat16) || q.size(0) == 0) return false;
  if (q.size(2) % 8 != 0 || q.stride(2) != 1 || k.stride(2) != 1 || v.stride(2) != 1) return false;
  // LibTorch knows which GPUs and which D; it is asked about the sequences as one.
  const auto one = [](const at::Tensor& x) { return x.detach().transpose(0, 1).unsqueeze(0); };
  constexpr int64_t kFlash = 1, kCudnn = 3;  // at::SDPBackend; cuDNN's is taken only where FlashAttention could be too
  const int64_t choice = at::_fused_sdp_choice(one(q), one(k), one(v), {}, 0, true, {}, q.size(1) != k.size(1));
  return choice == kFlash || choice == kCudnn;
}

}  // namespace slimtune
