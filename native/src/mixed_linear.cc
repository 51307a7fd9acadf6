// slimtune::mixed_linear: a linear layer whose weight is stored in another dtype than the arithmetic's.
//
// The composition linear(x, weight.to(x.dtype)) would keep every converted weight alive until the backward pass, which
// is the memory that storing them small was to save. This op converts a block of rows at a time, in both passes.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kBlockElements = 1 << 20;  // 4 MiB in float32: stays in the cache

int64_t blockRows(const at::Tensor& weight) { return std::max<int64_t>(64, kBlockElements / std::max<int64_t>(1, weight.size(1))); }

/// x [N, in] · weightᵀ [in, out] -> [N, out]
at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  const int64_t rows = blockRows(weight);
  for (int64_t begin = 0; begin < weight.size(0); begin += rows) {
    const int64_t length = std::min(rows, weight.size(0) - begin);
    at::Tensor block = weight.narrow(0, begin, length).to(x.scalar_type());
    at::Tensor out = y.narrow(1, begin, length);
    at::mm_out(out, x, block.t());
  }
  return y;
}

/// dy [N, out] · weight [out, in] -> [N, in]
at::Tensor productTransposed(const at::Tensor& dy, const at::Tensor& weight) {
  at::Tensor dx = at::zeros({dy.size(0), weight.size(1)}, dy.options());
  const int64_t rows = blockRows(weight);
  for (int64_t begin = 0; begin < weight.size(0); begin += rows) {
    const int64_t length = std::min(rows, weight.size(0) - begin);
    dx.addmm_(dy.narrow(1, begin, length), weight.narrow(0, begin, length).to(dy.scalar_type()));
  }
  return dx;
}

struct FrozenMixedLinear : torch::autograd::Function<FrozenMixedLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight) {
    at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({weight});
    return product(x, weight);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {productTransposed(gradients[0].contiguous(), context->get_saved_variables()[0]), at::Tensor()};
  }
};

at::Tensor mixedLinear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1),
              "expected x [N, in] and weight [out, in], got ", x.sizes(), " and ", weight.sizes());
  const at::Tensor castBias = bias && bias->defined() ? bias->to(x.scalar_type()) : at::Tensor();
  if (weight.scalar_type() == x.scalar_type()) return at::linear(x, weight, castBias);
  if (weight.requires_grad()) return at::linear(x, weight.to(x.scalar_type()), castBias);
  at::Tensor y = FrozenMixedLinear::apply(x, weight);
  return castBias.defined() ? at::add(y, castBias) : y;
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("mixed_linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
  library.impl("mixed_linear", c10::DispatchKey::CompositeImplicitAutograd, mixedLinear);
}

}  // namespace
}  // namespace slimtune
