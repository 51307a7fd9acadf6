// What packed_attention asks of LibTorch's attention kernels for GPUs, with stand-ins for them on the CPU: they check what
// they are given, and compute sequence by sequence from the offsets that they got. Against the CPU's kernel.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>

#include "checks.h"

using at::Tensor;
using Offsets = std::optional<Tensor>;

namespace {

/// Causal attention of [N, heads, D] by offsets, with gradients.
Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& offsets) {
  std::vector<Tensor> parts;
  const auto* begins = offsets.const_data_ptr<int32_t>();
  for (int64_t i = 0; i + 1 < offsets.numel(); i++) {
    const auto rows = [&](const Tensor& x) { return x.narrow(0, begins[i], begins[i + 1] - begins[i]).transpose(0, 1); };
    const int64_t length = begins[i + 1] - begins[i];
    const Tensor scores = at::matmul(rows(q), rows(k).transpose(1, 2)) / std::sqrt(static_cast<double>(q.size(2)));
    const Tensor seen = at::ones({length, length}, at::kBool).tril();
    parts.push_back(at::matmul(scores.masked_fill(seen.logical_not(), -INFINITY).softmax(-1), rows(v)).transpose(0, 1));
  }
  return at::cat(parts);
}

std::vector<Tensor> gradients(const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& offsets) {
  // As at first: a kernel is called with autograd switched off.
  const c10::impl::ForceDispatchKeyGuard anew(c10::impl::LocalDispatchKeySet(c10::impl::PODLocalDispatchKeySet{}));
  const c10::AutoGradMode on(true);
  std::vector<Tensor> leaves;
  for (const Tensor& x : {q, k, v}) leaves.push_back(x.detach().clone().requires_grad_());
  return torch::autograd::grad({reference(leaves[0], leaves[1], leaves[2], offsets)}, leaves, {dOut});
}

void expect(bool holds, const char* what) {
  if (!holds) fail("attention on a GPU", what);
}

int64_t longestOf(const Tensor& offsets) { return offsets.diff().max().item<int64_t>(); }

/// In the logarithms' place: what forward hands to backward.
Tensor mark(const Tensor& q) { return at::full({3}, static_cast<double>(q.numel())); }

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt> efficientForward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& bias, const Offsets& begins, const Offsets& keyBegins,
    std::optional<c10::SymInt> most, std::optional<c10::SymInt> mostKeys, double dropout, int64_t mask, bool logSumExp,
    std::optional<double> scale, const Offsets& lengths, std::optional<int64_t> window) {
  expect(q.dim() == 4 && q.size(0) == 1 && q.sizes() == k.sizes() && q.sizes() == v.sizes(), "shapes of the efficient kernel");
  expect(!bias && !lengths && !window && !scale && dropout == 0 && mask == 1 && logSumExp, "options of the efficient kernel");
  expect(begins && keyBegins && begins->is_same(*keyBegins) && most == longestOf(*begins) && mostKeys == most, "its lengths");
  const Tensor out = reference(q[0], k[0], v[0], *begins).unsqueeze(0);
  return {out, mark(q), at::empty({}, at::kLong), at::empty({}, at::kLong), *most, *most};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficientBackward(
    const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& bias, const Tensor& out,
    const Offsets& begins, const Offsets& keyBegins, c10::SymInt most, c10::SymInt mostKeys, const Tensor& logSumExp,
    double dropout, const Tensor&, const Tensor&, int64_t mask, bool biasTrains, std::optional<double> scale,
    std::optional<int64_t> splits, std::optional<int64_t> window, bool shared) {
  expect(dOut.is_contiguous() && dOut.sizes() == q.sizes() && out.sizes() == q.sizes() && k.sizes() == q.sizes(), "shapes back");
  expect(!bias && !window && !scale && !splits && !shared && !biasTrains && dropout == 0 && mask == 1, "options back");
  expect(begins->is_same(*keyBegins) && most == longestOf(*begins) && mostKeys == most, "lengths back");
  expect(at::equal(logSumExp, mark(q)), "the logarithms back");
  const auto result = gradients(dOut[0], q[0], k[0], v[0], *begins);
  return {result[0].unsqueeze(0), result[1].unsqueeze(0), result[2].unsqueeze(0), Tensor()};
}

Tensor grouped(const Tensor& x, int64_t heads) { return x.repeat_interleave(heads / x.size(1), 1); }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flashForward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& begins, const Offsets& keyBegins, c10::SymInt most,
    c10::SymInt mostKeys, double dropout, bool causal, bool debug, std::optional<double> scale, std::optional<c10::SymInt>,
    std::optional<c10::SymInt>, const Offsets&, const Offsets&, const Offsets&, std::optional<int64_t>) {
  expect(causal && !debug && !scale && dropout == 0 && begins->is_same(*keyBegins), "options of FlashAttention");
  expect(most == longestOf(*begins) && mostKeys == most, "lengths of FlashAttention");
  return {reference(q, grouped(k, q.size(1)), grouped(v, q.size(1)), *begins), mark(q), Tensor(), Tensor(), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> flashBackward(
    const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& logSumExp,
    const Tensor& begins, const Tensor& keyBegins, c10::SymInt most, c10::SymInt mostKeys, double dropout, bool causal,
    const Tensor&, const Tensor&, std::optional<double>, std::optional<c10::SymInt>, std::optional<c10::SymInt>) {
  expect(dOut.is_contiguous() && out.sizes() == q.sizes() && at::equal(logSumExp, mark(q)), "tensors of FlashAttention back");
  expect(causal && dropout == 0 && begins.is_same(keyBegins) && most == longestOf(begins) && mostKeys == most, "options back");
  const auto result = gradients(dOut, q, grouped(k, q.size(1)), grouped(v, q.size(1)), begins);
  const auto sum = [&](const Tensor& x) { return x.reshape({x.size(0), k.size(1), -1, x.size(2)}).sum(2); };
  return {result[0], sum(result[1]), sum(result[2])};
}

using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef, const Offsets&, bool);
using Backward = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                                    const Tensor&, const Tensor&, at::IntArrayRef, const Offsets&, bool);

void check(const std::vector<int64_t>& lengths, int64_t heads, int64_t kvHeads, int64_t dim, bool flash, bool slices) {
  int64_t n = 0;
  std::vector<int32_t> begins{0};
  for (const int64_t length : lengths) begins.push_back(static_cast<int32_t>(n += length));
  const Tensor offsets = at::tensor(begins, at::kInt);
  const auto made = [&](int64_t count) {
    return slices ? at::randn({n, count + 3, dim}).narrow(1, 2, count) : at::randn({n, count, dim});
  };
  const Tensor q = made(heads), k = made(kvHeads), v = made(kvHeads), dOut = at::randn({n, dim, heads}).transpose(1, 2);
  std::vector<Tensor> results[2];
  for (const bool gpu : {false, true}) {
    const auto key = c10::DispatchKeySet(gpu ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU);
    const auto [out, logSumExp] = opOf<Forward>("slimtune::_packed_attention_forward").redispatch(key, q, k, v, lengths, offsets, flash);
    const auto [dq, dk, dv] = opOf<Backward>("slimtune::_packed_attention_backward")
                                  .redispatch(key, dOut, q, k, v, out, logSumExp, lengths, offsets, flash);
    results[gpu] = {out, dq, dk, dv};
  }
  for (size_t i = 0; i < 4; i++) same("attention on a GPU", results[1][i], results[0][i], 1e-4);
}

}  // namespace

void checkAttention() {
  torch::Library fakes(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
  fakes.impl("_efficient_attention_forward", efficientForward);
  fakes.impl("_efficient_attention_backward", efficientBackward);
  fakes.impl("_flash_attention_forward", flashForward);
  fakes.impl("_flash_attention_backward", flashBackward);
  for (const bool flash : {false, true}) {
    for (const bool slices : {false, true}) {
      check({5}, 2, 2, 16, flash, slices);
      check({7, 1, 30}, 6, 2, 8, flash, slices);
      check({33, 64, 17}, 4, 1, 12, flash, slices);
    }
  }
}
