#include "stages.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "vectorised.h"

namespace slimtune {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements that are worth a thread

int64_t rowGrain(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)); }

/// The dtype that elementwise arithmetic is done in.
at::ScalarType wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

template <typename T, typename Out>
SLIMTUNE_VECTORISED void normRows(const T* x, const T* weight, double eps, Out* y, T* inverseRms, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += width, y += width) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i] * x[i];
    const T inverse = T(1) / std::sqrt(sum / static_cast<T>(width) + static_cast<T>(eps));
    inverseRms[row] = inverse;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) y[i] = static_cast<Out>(weight[i] * (x[i] * inverse));
  }
}

/// With n = x·inverse and d = dy·weight: dx = (d - n·mean(d·n))·inverse.
template <typename T>
SLIMTUNE_VECTORISED void normRowsBackward(const T* dy, const T* x, const T* weight, const T* inverseRms, T* dx, int64_t rows,
                                          int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += width, dy += width, dx += width) {
    const T inverse = inverseRms[row];
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += dy[i] * weight[i] * x[i];
    const T mean = sum * inverse * inverse / static_cast<T>(width);
#pragma omp simd
    for (int64_t i = 0; i < width; i++) dx[i] = (dy[i] * weight[i] - x[i] * mean) * inverse;
  }
}

template <typename T>
SLIMTUNE_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + vectorExp(std::min(-x, T(88))));
}

template <typename T>
SLIMTUNE_VECTORISED void gateSpan(const T* gate, const T* up, T* y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

template <typename T>
SLIMTUNE_VECTORISED void gateSpanBackward(const T* dy, const T* gate, const T* up, T* dGate, T* dUp, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const T s = sigmoid(gate[i]);
    const T silu = gate[i] * s;
    dGate[i] = dy[i] * up[i] * (s + silu * (T(1) - s));
    dUp[i] = dy[i] * silu;
  }
}

template <typename Body>
void inDtype(at::ScalarType dtype, const Body& body) {
  if (dtype == at::kDouble) {
    body(double{});
  } else {
    body(float{});
  }
}

std::tuple<at::Tensor, at::Tensor> normForward(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype) {
  const at::ScalarType type = wide(x);
  const at::Tensor input = x.to(type).contiguous(), scale = weight.to(type).contiguous();
  const int64_t rows = x.size(0), width = x.size(1);
  at::Tensor inverseRms = at::empty({rows}, input.options());
  at::Tensor y = at::empty(x.sizes(), input.options());
  inDtype(type, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      normRows(input.const_data_ptr<T>() + begin * width, scale.const_data_ptr<T>(), eps,
               y.mutable_data_ptr<T>() + begin * width, inverseRms.mutable_data_ptr<T>() + begin, end - begin, width);
    });
  });
  return {y.to(dtype), inverseRms};
}

std::tuple<at::Tensor, at::Tensor> normBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                                const at::Tensor& inverseRms, bool weightTrains) {
  const at::ScalarType type = wide(x);
  const at::Tensor input = x.to(type).contiguous(), scale = weight.to(type).contiguous(), d = dy.to(type).contiguous();
  const int64_t rows = x.size(0), width = x.size(1);
  at::Tensor dx = at::empty(x.sizes(), input.options());
  inDtype(type, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      normRowsBackward(d.const_data_ptr<T>() + begin * width, input.const_data_ptr<T>() + begin * width,
                       scale.const_data_ptr<T>(), inverseRms.const_data_ptr<T>() + begin,
                       dx.mutable_data_ptr<T>() + begin * width, end - begin, width);
    });
  });
  at::Tensor dWeight;
  if (weightTrains) dWeight = at::sum(d * input * inverseRms.unsqueeze(1), {0}).to(weight.scalar_type());
  return {dx.to(x.scalar_type()), dWeight};
}

at::Tensor gateForward(const at::Tensor& gate, const at::Tensor& up) {
  const at::ScalarType type = wide(gate);
  const at::Tensor g = gate.to(type).contiguous(), u = up.to(type).contiguous();
  at::Tensor y = at::empty(g.sizes(), g.options());
  inDtype(type, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, y.numel(), kGrain, [&](int64_t begin, int64_t end) {
      gateSpan(g.const_data_ptr<T>() + begin, u.const_data_ptr<T>() + begin, y.mutable_data_ptr<T>() + begin, end - begin);
    });
  });
  return y.to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> gatesBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  const at::ScalarType type = wide(gate);
  const at::Tensor g = gate.to(type).contiguous(), u = up.to(type).contiguous(), d = dy.to(type).contiguous();
  at::Tensor dGate = at::empty(g.sizes(), g.options()), dUp = at::empty(g.sizes(), g.options());
  inDtype(type, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, g.numel(), kGrain, [&](int64_t begin, int64_t end) {
      gateSpanBackward(d.const_data_ptr<T>() + begin, g.const_data_ptr<T>() + begin, u.const_data_ptr<T>() + begin,
                       dGate.mutable_data_ptr<T>() + begin, dUp.mutable_data_ptr<T>() + begin, end - begin);
    });
  });
  return {dGate.to(gate.scalar_type()), dUp.to(up.scalar_type())};
}

// The same of ATen's ops, for devices without kernels of their own.

std::tuple<at::Tensor, at::Tensor> composedNorm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype) {
  const at::Tensor y = x.to(wide(x));
  const at::Tensor inverseRms = at::rsqrt(at::mean(at::square(y), {-1}) + eps);
  return {(weight.to(wide(x)) * (y * inverseRms.unsqueeze(1))).to(dtype), inverseRms};
}

std::tuple<at::Tensor, at::Tensor> composedNormBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                                        const at::Tensor& inverseRms, bool weightTrains) {
  const at::Tensor inverse = inverseRms.unsqueeze(1), d = dy.to(wide(x)), normed = x.to(wide(x)) * inverse;
  const at::Tensor scaled = d * weight.to(wide(x));
  const at::Tensor dx = (scaled - normed * at::mean(scaled * normed, {-1}, true)) * inverse;
  return {dx.to(x.scalar_type()), weightTrains ? at::sum(d * normed, {0}).to(weight.scalar_type()) : at::Tensor()};
}

at::Tensor composedGate(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate) * up; }

std::tuple<at::Tensor, at::Tensor> composedGateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  return {at::silu_backward(dy * up, gate), dy * at::silu(gate)};
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("_rms_norm_forward(Tensor x, Tensor weight, float eps, ScalarType dtype) -> (Tensor, Tensor)");
  library.def(
      "_rms_norm_backward(Tensor dy, Tensor x, Tensor weight, Tensor inverse_rms, bool weight_trains) -> (Tensor, Tensor)");
  library.def("_gate_forward(Tensor gate, Tensor up) -> Tensor");
  library.def("_gate_backward(Tensor dy, Tensor gate, Tensor up) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  library.impl("_rms_norm_forward", normForward);
  library.impl("_rms_norm_backward", normBackward);
  library.impl("_gate_forward", gateForward);
  library.impl("_gate_backward", gatesBackward);
}
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) {
  library.impl("_rms_norm_forward", composedNorm);
  library.impl("_rms_norm_backward", composedNormBackward);
  library.impl("_gate_forward", composedGate);
  library.impl("_gate_backward", composedGateBackward);
}

template <typename Signature>
auto opNamed(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype, at::Tensor& inverseRms) {
  static const auto op = opNamed<decltype(normForward)>("slimtune::_rms_norm_forward");
  at::Tensor y;
  std::tie(y, inverseRms) = op.call(x, weight, eps, dtype);
  return y;
}

at::Tensor rmsNormBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverseRms,
                           at::Tensor* dWeight) {
  static const auto op = opNamed<decltype(normBackward)>("slimtune::_rms_norm_backward");
  const auto [dx, weightGradient] = op.call(dy, x, weight, inverseRms, dWeight != nullptr);
  if (dWeight) *dWeight = weightGradient;
  return dx;
}

at::Tensor gate(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = opNamed<decltype(gateForward)>("slimtune::_gate_forward");
  return op.call(gate, up);
}

std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = opNamed<decltype(gatesBackward)>("slimtune::_gate_backward");
  return op.call(dy, gate, up);
}

}  // namespace slimtune
