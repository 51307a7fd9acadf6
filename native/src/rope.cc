// slimtune::rope: rotary position embedding, https://arxiv.org/abs/2104.09864, of heads that may be normed first.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "norm.h"
#include "vectorised.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<at::Tensor>;

/// Turns the heads of some tokens; `direction` is 1, or -1 for the gradient: the inverse of a rotation. Pairs are (i, i + half),
/// or (2i, 2i + 1) where they are interleaved; what lies behind them passes through.
template <bool kInterleaved, typename T, typename Wide>
SLIMTUNE_VECTORISED void turn(const T* x, int64_t stride, const Wide* cos, const Wide* sin, Wide direction, T* y, int64_t tokens,
                              int64_t heads, int64_t half, int64_t dim) {
  const int64_t step = kInterleaved ? 2 : 1, apart = kInterleaved ? 1 : half;
  for (int64_t token = 0; token < tokens; token++, x += stride, cos += half, sin += half) {
    for (int64_t head = 0; head < heads; head++, y += dim) {
      const T* const in = x + head * dim;
#pragma omp simd
      for (int64_t i = 0; i < half; i++) {
        const Wide a = static_cast<Wide>(in[step * i]), b = static_cast<Wide>(in[step * i + apart]), s = direction * sin[i];
        y[step * i] = static_cast<T>(a * cos[i] - b * s);
        y[step * i + apart] = static_cast<T>(b * cos[i] + a * s);
      }
      for (int64_t i = 2 * half; i < dim; i++) y[i] = in[i];
    }
  }
}

/// x [N, heads, D], cos and sin [N, R/2]; of ATen's ops, for devices without a kernel of their own
at::Tensor composedRotation(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                            int64_t direction) {
  const int64_t half = cos.size(1), rest = x.size(2) - 2 * half;
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1) * direction, turned = x.narrow(2, 0, 2 * half);
  const at::Tensor pairs = interleaved ? turned.unflatten(2, {half, 2}).transpose(2, 3) : turned.unflatten(2, {2, half});
  const at::Tensor a = pairs.select(2, 0), b = pairs.select(2, 1);  // [N, heads, R/2]
  const at::Tensor y = at::stack({a * c - b * s, b * c + a * s}, interleaved ? 3 : 2).flatten(2).to(x.scalar_type());
  return rest == 0 ? y : at::cat({y, x.narrow(2, 2 * half, rest)}, 2);
}

at::Tensor rotateCpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved, int64_t direction) {
  const int64_t tokens = x.size(0), heads = x.size(1), dim = x.size(2), half = cos.size(1);
  const bool rowsAreDense = x.stride(2) == 1 && x.stride(1) == dim;
  const at::Tensor input = rowsAreDense ? x : x.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, heads * dim));
  const auto run = [&](auto scalar, auto widened) {
    using T = decltype(scalar);
    using Wide = decltype(widened);
    at::parallel_for(0, tokens, grain, [&](int64_t begin, int64_t end) {
      (interleaved ? turn<true, T, Wide> : turn<false, T, Wide>)(
          input.const_data_ptr<T>() + begin * input.stride(0), input.stride(0), cos.const_data_ptr<Wide>() + begin * half,
          sin.const_data_ptr<Wide>() + begin * half, static_cast<Wide>(direction),
          y.mutable_data_ptr<T>() + begin * heads * dim, end - begin, heads, half, dim);
    });
  };
  switch (x.scalar_type()) {
    case at::kFloat: run(float{}, float{}); break;
    case at::kDouble: run(double{}, double{}); break;
    case at::kBFloat16: run(at::BFloat16{}, float{}); break;
    case at::kHalf: run(at::Half{}, float{}); break;
    default: TORCH_CHECK(false, "x is ", x.scalar_type());
  }
  return y;
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved, int64_t direction) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("slimtune::_rotate", "").typed<decltype(rotateCpu)>();
  return op.call(x, cos, sin, interleaved, direction);
}

/// Each head normed where there is a weight for that, then turned. The normed heads are not kept: the norm's backward pass
/// makes them again of x.
struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            const MaybeTensor& weight, const MaybeTensor& bias, bool interleaved, const Norm& norm) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor heads = x, statistics;
    if (weight) {
      const at::Tensor rows = x.reshape({-1, x.size(2)}), shift = bias.value_or(at::Tensor());
      heads = normRows(norm, rows, *weight, shift, x.scalar_type(), statistics).view(x.sizes());
      context->save_for_backward({cos, sin, x, *weight, shift, statistics});
    } else {
      context->save_for_backward({cos, sin});
    }
    context->saved_data["interleaved"] = interleaved;
    context->saved_data["offset"] = norm.offset;
    return rotate(heads, cos, sin, interleaved, 1);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor back = rotate(gradients[0], saved[0], saved[1], context->saved_data["interleaved"].toBool(), -1);
    if (saved.size() == 2) return {back, {}, {}, {}, {}, {}, {}};
    const at::Tensor &x = saved[2], &bias = saved[4];
    const at::Tensor rows = x.reshape({-1, x.size(2)});
    const NormGradients made =
        normBackward(back.view(rows.sizes()), rows, saved[3], bias, saved[5], context->saved_data["offset"].toDouble(),
                     context->needs_input_grad(3), bias.defined() && context->needs_input_grad(4));
    return {made.x.view(x.sizes()), {}, {}, made.weight, made.bias, {}, {}};
  }
};

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved,
                const MaybeTensor& normWeight, const MaybeTensor& normBias, c10::string_view kind, double eps, double offset) {
  TORCH_CHECK(x.dim() == 3 && at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided,
              "expected x [N, heads, D], got ", x.sizes(), " of ", x.scalar_type());
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  for (const at::Tensor& table : {cos, sin}) {
    TORCH_CHECK(table.dim() == 2 && table.size(0) == x.size(0) && table.sizes() == cos.sizes() &&
                    2 * table.size(1) <= x.size(2) && table.scalar_type() == wide && table.is_contiguous() &&
                    table.device() == x.device(),
                "expected cos and sin [", x.size(0), ", at most ", x.size(2) / 2, "] of ", wide, ", got ", table.sizes(),
                " of ", table.scalar_type());
    TORCH_CHECK(!table.requires_grad(), "cos and sin are not trained");
  }
  TORCH_CHECK(normWeight || !normBias, "a norm's bias without its weight");
  const Norm norm = normOf(kind, eps, offset, normWeight.value_or(at::Tensor()), normBias.value_or(at::Tensor()), x.size(2));
  return Rope::apply(x, cos, sin, normWeight, normBias, interleaved, norm);
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def(
      "rope(Tensor x, Tensor cos, Tensor sin, bool interleaved=False, Tensor? norm_weight=None, Tensor? norm_bias=None, "
      "str kind='rms', float eps=0., float offset=0.) -> Tensor");
  library.impl("rope", c10::DispatchKey::CompositeImplicitAutograd, rope);
  library.def("_rotate(Tensor x, Tensor cos, Tensor sin, bool interleaved, int direction) -> Tensor");
  library.impl("_rotate", c10::DispatchKey::CPU, rotateCpu);
  library.impl("_rotate", c10::DispatchKey::CompositeExplicitAutograd, composedRotation);
}

}  // namespace
}  // namespace slimtune
