// slimtune::rope: rotary position embedding, https://arxiv.org/abs/2104.09864, with halves as pairs as transformers has it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "vectorised.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Turns the heads of some tokens; `direction` is 1, or -1 for the gradient: the inverse of a rotation.
template <typename T, typename Wide>
SLIMTUNE_VECTORISED void turn(const T* x, int64_t stride, const Wide* cos, const Wide* sin, Wide direction, T* y, int64_t tokens,
                              int64_t heads, int64_t half) {
  for (int64_t token = 0; token < tokens; token++, x += stride, cos += half, sin += half) {
    for (int64_t head = 0; head < heads; head++, y += 2 * half) {
      const T* const in = x + head * 2 * half;
#pragma omp simd
      for (int64_t i = 0; i < half; i++) {
        const Wide a = static_cast<Wide>(in[i]), b = static_cast<Wide>(in[half + i]), s = direction * sin[i];
        y[i] = static_cast<T>(a * cos[i] - b * s);
        y[half + i] = static_cast<T>(b * cos[i] + a * s);
      }
    }
  }
}

/// x [N, heads, D], cos and sin [N, D/2]; of ATen's ops, for devices without a kernel of their own
at::Tensor composedRotation(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t direction) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1) * direction;
  const at::Tensor a = x.narrow(2, 0, half), b = x.narrow(2, half, half);
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(x.scalar_type());
}

at::Tensor rotateCpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t direction) {
  const int64_t tokens = x.size(0), heads = x.size(1), half = x.size(2) / 2;
  const bool rowsAreDense = x.stride(2) == 1 && x.stride(1) == x.size(2);
  const at::Tensor input = rowsAreDense ? x : x.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, heads * 2 * half));
  const auto run = [&](auto scalar, auto widened) {
    using T = decltype(scalar);
    using Wide = decltype(widened);
    at::parallel_for(0, tokens, grain, [&](int64_t begin, int64_t end) {
      turn(input.const_data_ptr<T>() + begin * input.stride(0), input.stride(0), cos.const_data_ptr<Wide>() + begin * half,
           sin.const_data_ptr<Wide>() + begin * half, static_cast<Wide>(direction),
           y.mutable_data_ptr<T>() + begin * heads * 2 * half, end - begin, heads, half);
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

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t direction) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("slimtune::_rotate", "").typed<decltype(rotateCpu)>();
  return op.call(x, cos, sin, direction);
}

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({cos, sin});
    return rotate(x, cos, sin, 1);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    return {rotate(gradients[0], saved[0], saved[1], -1), {}, {}};
  }
};

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  TORCH_CHECK(x.dim() == 3 && x.size(2) % 2 == 0 && at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided,
              "expected x [N, heads, D] with an even D, got ", x.sizes(), " of ", x.scalar_type());
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  for (const at::Tensor& table : {cos, sin}) {
    TORCH_CHECK(table.dim() == 2 && table.size(0) == x.size(0) && table.size(1) == x.size(2) / 2 &&
                    table.scalar_type() == wide && table.is_contiguous() && table.device() == x.device(),
                "expected cos and sin [", x.size(0), ", ", x.size(2) / 2, "] of ", wide, ", got ", table.sizes(), " of ",
                table.scalar_type());
    TORCH_CHECK(!table.requires_grad(), "cos and sin are not trained");
  }
  return Rope::apply(x, cos, sin);
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("rope(Tensor x, Tensor cos, Tensor sin) -> Tensor");
  library.impl("rope", c10::DispatchKey::CompositeImplicitAutograd, rope);
  library.def("_rotate(Tensor x, Tensor cos, Tensor sin, int direction) -> Tensor");
  library.impl("_rotate", c10::DispatchKey::CPU, rotateCpu);
  library.impl("_rotate", c10::DispatchKey::CompositeExplicitAutograd, composedRotation);
}

}  // namespace
}  // namespace slimtune
