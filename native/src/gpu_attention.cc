// slimtune::packed_attention on NVIDIA GPUs: LibTorch's kernels over sequences of unequal lengths, through its dispatcher,
// so that nothing of CUDA is needed to compile this. FlashAttention (https://arxiv.org/abs/2307.08691) for 16 bits; the
// memory-efficient one (https://arxiv.org/abs/2112.05682) for float32. Neither makes a matrix of scores.
#include "gpu_attention.h"

#include <torch/library.h>

#include <algorithm>

namespace slimtune {
namespace {

constexpr int64_t kCausal = 1;  // the memory-efficient kernel's mask; its sequences have as many keys as queries

int64_t longest(at::IntArrayRef lengths) { return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()); }

/// [N, kv heads, D] -> [1, N, heads, D]: the memory-efficient kernel knows no groups of heads.
at::Tensor forEachHead(const at::Tensor& x, int64_t heads) {
  const int64_t group = heads / x.size(1);
  if (group == 1) return x.unsqueeze(0);
  return x.unsqueeze(2).expand({-1, -1, group, -1}).reshape({1, x.size(0), heads, x.size(2)});
}

/// Back: the sum over each group, [N, kv heads, D].
at::Tensor sumOverGroups(const at::Tensor& x, int64_t kvHeads) {
  const at::Tensor each = x.squeeze(0);
  if (each.size(1) == kvHeads) return each;
  return each.reshape({each.size(0), kvHeads, -1, each.size(2)}).sum(2);
}

/// FlashAttention counts the keys before and after a query's own; with a window it is not told "causal" but 0 after.
struct FlashWindow {
  bool causal;
  std::optional<int64_t> before, after;
};
FlashWindow flashWindow(int64_t window) {
  if (window == 0) return {true, std::nullopt, std::nullopt};
  return {false, window - 1, 0};
}

/// The memory-efficient kernel counts a query's own among the keys of its window, as packed_attention does.
std::optional<int64_t> efficientWindow(int64_t window) { return window > 0 ? std::optional(window) : std::nullopt; }

/// -> out [N, heads, D] and what the backward pass needs of the softmax.
std::tuple<at::Tensor, at::Tensor> forwardCuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               at::IntArrayRef lengths, const std::optional<at::Tensor>& offsets,
                                               bool flash, std::optional<double> scale, double, int64_t window) {
  const int64_t most = longest(lengths), heads = q.size(1);
  if (flash) {
    const auto [causal, before, after] = flashWindow(window);
    const auto result = at::_flash_attention_forward(q, k, v, *offsets, *offsets, most, most, /*dropout_p=*/0, causal,
                                                     /*return_debug_mask=*/false, scale, before, after);
    return {std::get<0>(result), std::get<1>(result)};
  }
  const auto result = at::_efficient_attention_forward(q.unsqueeze(0), forEachHead(k, heads), forEachHead(v, heads),
                                                       /*bias=*/{}, offsets, offsets, most, most, /*dropout_p=*/0, kCausal,
                                                       /*compute_log_sumexp=*/true, scale, /*seqlen_k=*/{},
                                                       efficientWindow(window));
  return {std::get<0>(result).squeeze(0), std::get<1>(result)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backwardCuda(const at::Tensor& dOut, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& logSumExp,
                                                            at::IntArrayRef lengths,
                                                            const std::optional<at::Tensor>& offsets, bool flash,
                                                            std::optional<double> scale, double, int64_t window) {
  const int64_t most = longest(lengths), heads = q.size(1);
  const auto unused = [&](at::IntArrayRef shape, at::ScalarType type) { return at::empty(shape, q.options().dtype(type)); };
  if (flash) {
    const at::Tensor random = unused({2}, at::kUInt64);  // of dropout's generator
    const auto [causal, before, after] = flashWindow(window);
    return at::_flash_attention_backward(dOut.contiguous(), q, k, v, out, logSumExp, *offsets, *offsets, most, most,
                                         /*dropout_p=*/0, causal, random, random, scale, before, after);
  }
  const at::Tensor random = unused({}, at::kLong);
  const auto result = at::_efficient_attention_backward(
      dOut.contiguous().unsqueeze(0), q.unsqueeze(0), forEachHead(k, heads), forEachHead(v, heads), /*bias=*/{},
      out.unsqueeze(0), offsets, offsets, most, most, logSumExp, /*dropout_p=*/0, random, random, kCausal,
      /*bias_requires_grad=*/false, scale, /*num_splits_key=*/{}, efficientWindow(window));
  return {std::get<0>(result).squeeze(0), sumOverGroups(std::get<1>(result), k.size(1)),
          sumOverGroups(std::get<2>(result), v.size(1))};
}

TORCH_LIBRARY_IMPL(slimtune, CUDA, library) {
  library.impl("_packed_attention_forward", forwardCuda);
  library.impl("_packed_attention_backward", backwardCuda);
}

}  // namespace

GpuKernel gpuKernelFor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionSpec& spec) {
  if (!q.is_cuda() || q.size(0) == 0 || spec.softcap > 0) return GpuKernel::none;
  if (q.stride(2) != 1 || k.stride(2) != 1 || v.stride(2) != 1) return GpuKernel::none;
  // LibTorch knows which GPUs, dtypes and D; it is asked about the sequences as one.
  constexpr int64_t kFlash = 1, kEfficient = 2, kCudnn = 3;  // at::SDPBackend
  const auto choice = [](const at::Tensor& one, const at::Tensor& two, const at::Tensor& three) {
    const auto whole = [](const at::Tensor& x) { return x.detach().transpose(0, 1).unsqueeze(0); };
    return at::_fused_sdp_choice(whole(one), whole(two), whole(three), {}, 0, true, {}, one.size(1) != two.size(1));
  };
  const auto dtype = q.scalar_type();
  if ((dtype == at::kHalf || dtype == at::kBFloat16) && q.size(2) % 8 == 0) {
    const int64_t best = choice(q, k, v);  // cuDNN's is taken only where FlashAttention could be too
    if (best == kFlash || best == kCudnn) return GpuKernel::flash;
  }
  return choice(q, q, q) == kEfficient ? GpuKernel::efficient : GpuKernel::none;  // heads as that kernel gets them
}

at::Tensor sequenceOffsets(at::IntArrayRef lengths, c10::Device device) {
  at::Tensor begins = at::zeros({static_cast<int64_t>(lengths.size()) + 1}, at::kInt);
  int32_t* const values = begins.mutable_data_ptr<int32_t>();
  for (size_t i = 0; i < lengths.size(); i++) values[i + 1] = values[i] + static_cast<int32_t>(lengths[i]);
  return device.is_cuda() ? begins.pin_memory().to(device, /*non_blocking=*/true) : begins.to(device);
}

}  // namespace slimtune
