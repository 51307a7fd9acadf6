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

/// What the GPU's kernels are told beside the tensors; -1: no window.
struct Told {
  std::optional<double> scale;
  int64_t window;
};

/// Causal attention of [N, heads, D] by offsets, with gradients.
Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& offsets, const Told& told) {
  std::vector<Tensor> parts;
  const auto* begins = offsets.const_data_ptr<int32_t>();
  for (int64_t i = 0; i + 1 < offsets.numel(); i++) {
    const auto rows = [&](const Tensor& x) { return x.narrow(0, begins[i], begins[i + 1] - begins[i]).transpose(0, 1); };
    const int64_t length = begins[i + 1] - begins[i];
    const double scale = told.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(2))));
    const Tensor scores = at::matmul(rows(q), rows(k).transpose(1, 2)) * scale;
    const Tensor places = at::arange(length), before = places.unsqueeze(1) - places;
    const Tensor seen = at::logical_and(before >= 0, told.window < 0 ? before >= 0 : before < told.window);
    parts.push_back(at::matmul(scores.masked_fill(seen.logical_not(), -INFINITY).softmax(-1), rows(v)).transpose(0, 1));
  }
  return at::cat(parts);
}

std::vector<Tensor> gradients(const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& offsets,
                              const Told& told) {
  // As at first: a kernel is called with autograd switched off.
  const c10::impl::ForceDispatchKeyGuard anew(c10::impl::LocalDispatchKeySet(c10::impl::PODLocalDispatchKeySet{}));
  const c10::AutoGradMode on(true);
  std::vector<Tensor> leaves;
  for (const Tensor& x : {q, k, v}) leaves.push_back(x.detach().clone().requires_grad_());
  return torch::autograd::grad({reference(leaves[0], leaves[1], leaves[2], offsets, told)}, leaves, {dOut});
}

void expect(bool holds, const char* what) {
  if (!holds) fail("attention on a GPU", what);
}

/// As FlashAttention is told: the keys before a query's own and after it, or nothing but "causal".
Told toldFlash(bool causal, std::optional<double> scale, const std::optional<c10::SymInt>& left,
               const std::optional<c10::SymInt>& right) {
  expect(causal ? !left && !right : left && right && *left >= 0 && *right == 0, "the window of FlashAttention");
  return {scale, left ? left->expect_int() + 1 : -1};
}

int64_t longestOf(const Tensor& offsets) { return offsets.diff().max().item<int64_t>(); }

/// In the logarithms' place: what forward hands to backward.
Tensor mark(const Tensor& q) { return at::full({3}, static_cast<double>(q.numel())); }

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt> efficientForward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& bias, const Offsets& begins, const Offsets& keyBegins,
    std::optional<c10::SymInt> most, std::optional<c10::SymInt> mostKeys, double dropout, int64_t mask, bool logSumExp,
    std::optional<double> scale, const Offsets& lengths, std::optional<int64_t> window) {
  expect(q.dim() == 4 && q.size(0) == 1 && q.sizes() == k.sizes() && q.sizes() == v.sizes(), "shapes of the efficient kernel");
  expect(!bias && !lengths && (!window || *window > 0) && dropout == 0 && mask == 1 && logSumExp, "options of the efficient kernel");
  expect(begins && keyBegins && begins->is_same(*keyBegins) && most == longestOf(*begins) && mostKeys == most, "its lengths");
  const Tensor out = reference(q[0], k[0], v[0], *begins, {scale, window.value_or(-1)}).unsqueeze(0);
  return {out, mark(q), at::empty({}, at::kLong), at::empty({}, at::kLong), *most, *most};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficientBackward(
    const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& bias, const Tensor& out,
    const Offsets& begins, const Offsets& keyBegins, c10::SymInt most, c10::SymInt mostKeys, const Tensor& logSumExp,
    double dropout, const Tensor&, const Tensor&, int64_t mask, bool biasTrains, std::optional<double> scale,
    std::optional<int64_t> splits, std::optional<int64_t> window, bool shared) {
  expect(dOut.is_contiguous() && dOut.sizes() == q.sizes() && out.sizes() == q.sizes() && k.sizes() == q.sizes(), "shapes back");
  expect(!bias && (!window || *window > 0) && !splits && !shared && !biasTrains && dropout == 0 && mask == 1, "options back");
  expect(begins->is_same(*keyBegins) && most == longestOf(*begins) && mostKeys == most, "lengths back");
  expect(at::equal(logSumExp, mark(q)), "the logarithms back");
  const auto result = gradients(dOut[0], q[0], k[0], v[0], *begins, {scale, window.value_or(-1)});
  return {result[0].unsqueeze(0), result[1].unsqueeze(0), result[2].unsqueeze(0), Tensor()};
}

Tensor grouped(const Tensor& x, int64_t heads) { return x.repeat_interleave(heads / x.size(1), 1); }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flashForward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& begins, const Offsets& keyBegins, c10::SymInt most,
    c10::SymInt mostKeys, double dropout, bool causal, bool debug, std::optional<double> scale, std::optional<c10::SymInt> left,
    std::optional<c10::SymInt> right, const Offsets&, const Offsets&, const Offsets&, std::optional<int64_t>) {
  expect(!debug && dropout == 0 && begins->is_same(*keyBegins), "options of FlashAttention");
  expect(most == longestOf(*begins) && mostKeys == most, "lengths of FlashAttention");
  const Told told = toldFlash(causal, scale, left, right);
  return {reference(q, grouped(k, q.size(1)), grouped(v, q.size(1)), *begins, told), mark(q), Tensor(), Tensor(), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> flashBackward(
    const Tensor& dOut, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& logSumExp,
    const Tensor& begins, const Tensor& keyBegins, c10::SymInt most, c10::SymInt mostKeys, double dropout, bool causal,
    const Tensor&, const Tensor&, std::optional<double> scale, std::optional<c10::SymInt> left,
    std::optional<c10::SymInt> right) {
  expect(dOut.is_contiguous() && out.sizes() == q.sizes() && at::equal(logSumExp, mark(q)), "tensors of FlashAttention back");
  expect(dropout == 0 && begins.is_same(keyBegins) && most == longestOf(begins) && mostKeys == most, "options back");
  const auto result = gradients(dOut, q, grouped(k, q.size(1)), grouped(v, q.size(1)), begins,
                                toldFlash(causal, scale, left, right));
  const auto sum = [&](const Tensor& x) { return x.reshape({x.size(0), k.size(1), -1, x.size(2)}).sum(2); };
  return {result[0], sum(result[1]), sum(result[2])};
}

using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef, const Offsets&, bool,
                                           std::optional<double>, double, int64_t);
using Backward = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                                    const Tensor&, at::IntArrayRef, const Offsets&, bool,
                                                    std::optional<double>, double, int64_t);

struct Sizes {
  std::vector<int64_t> lengths;
  int64_t heads, kvHeads, dim;
};

/// q, k, v and the gradient of the output, strided as a projection or its views may leave them; in float64, as a window of 1
/// has gradients of 0.
std::vector<Tensor> made(const Sizes& sizes, bool slices) {
  int64_t n = 0;
  for (const int64_t length : sizes.lengths) n += length;
  std::vector<Tensor> tensors;
  for (const int64_t count : {sizes.heads, sizes.kvHeads, sizes.kvHeads}) {
    const Tensor wide = at::randn({n, count + 3, sizes.dim}, at::kDouble);
    tensors.push_back(slices ? wide.narrow(1, 2, count) : wide.narrow(1, 0, count).contiguous());
  }
  tensors.push_back(at::randn({n, sizes.dim, sizes.heads}, at::kDouble).transpose(1, 2));
  return tensors;
}

void check(const Sizes& sizes, bool flash, bool slices, std::optional<double> scale, int64_t window) {
  std::vector<int32_t> begins{0};
  for (const int64_t length : sizes.lengths) begins.push_back(begins.back() + static_cast<int32_t>(length));
  const Tensor offsets = at::tensor(begins, at::kInt);
  const std::vector<Tensor> x = made(sizes, slices);
  std::vector<Tensor> results[2];
  for (const bool gpu : {false, true}) {
    const auto key = c10::DispatchKeySet(gpu ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU);
    const auto [out, logSumExp] = opOf<Forward>("slimtune::_packed_attention_forward")
                                      .redispatch(key, x[0], x[1], x[2], sizes.lengths, offsets, flash, scale, 0, window);
    const auto [dq, dk, dv] =
        opOf<Backward>("slimtune::_packed_attention_backward")
            .redispatch(key, x[3], x[0], x[1], x[2], out, logSumExp, sizes.lengths, offsets, flash, scale, 0, window);
    results[gpu] = {out, dq, dk, dv};
  }
  for (size_t i = 0; i < 4; i++) same("attention on a GPU", results[1][i], results[0][i], 1e-4);
}

/// The composition for devices without a kernel, and for soft caps on a GPU.
void checkComposition(const Sizes& sizes, std::optional<double> scale, double softcap, int64_t window) {
  using Composed = Tensor(const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef, std::optional<double>, double, int64_t);
  using Fused = Tensor(const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef, const Offsets&, std::optional<double>,
                       double, int64_t);
  const std::vector<Tensor> x = made(sizes, true);
  std::vector<Tensor> results[2];
  for (const bool composed : {false, true}) {
    std::vector<Tensor> leaves;
    for (int i = 0; i < 3; i++) leaves.push_back(x[i].detach().clone().requires_grad_());
    const Tensor out =
        composed ? opOf<Composed>("slimtune::_packed_attention_composed")
                       .call(leaves[0], leaves[1], leaves[2], sizes.lengths, scale, softcap, window)
                 : opOf<Fused>("slimtune::packed_attention")
                       .call(leaves[0], leaves[1], leaves[2], sizes.lengths, {}, scale, softcap, window);
    results[composed] = torch::autograd::grad({out}, leaves, {x[3].reshape(out.sizes())});
    results[composed].push_back(out);
  }
  for (size_t i = 0; i < 4; i++) same("attention composed", results[1][i], results[0][i], 1e-4);
}

}  // namespace

void checkAttention() {
  torch::Library fakes(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
  fakes.impl("_efficient_attention_forward", efficientForward);
  fakes.impl("_efficient_attention_backward", efficientBackward);
  fakes.impl("_flash_attention_forward", flashForward);
  fakes.impl("_flash_attention_backward", flashBackward);
  const std::vector<Sizes> all{{{5}, 2, 2, 16}, {{7, 1, 30}, 6, 2, 8}, {{33, 64, 17}, 4, 1, 12}};
  const std::vector<std::optional<double>> scales{std::nullopt, 0.3};
  for (const Sizes& sizes : all) {
    for (const bool flash : {false, true})
      for (const bool slices : {false, true})
        for (const auto& scale : scales)
          for (const int64_t window : {0, 1, 4, 30}) check(sizes, flash, slices, scale, window);
  }
  for (const Sizes& sizes : std::vector<Sizes>{{{5, 0, 9}, 2, 2, 16}, {{33, 64, 17}, 4, 1, 12}})
    for (const auto& scale : scales)
      for (const double softcap : {0., 0.7})
        for (const int64_t window : {0, 1, 9, 40}) checkComposition(sizes, scale, softcap, window);
}
