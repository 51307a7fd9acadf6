#include "stages.h"

#include <ATen/Parallel.h>

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
  return T(1) / (T(1) + vectorExp(x < T(-88) ? T(88) : -x));
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

}  // namespace

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype, at::Tensor& inverseRms) {
  const at::ScalarType type = wide(x);
  const at::Tensor input = x.to(type).contiguous(), scale = weight.to(type).contiguous();
  const int64_t rows = x.size(0), width = x.size(1);
  inverseRms = at::empty({rows}, input.options());
  at::Tensor y = at::empty(x.sizes(), input.options());
  inDtype(type, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      normRows(input.const_data_ptr<T>() + begin * width, scale.const_data_ptr<T>(), eps,
               y.mutable_data_ptr<T>() + begin * width, inverseRms.mutable_data_ptr<T>() + begin, end - begin, width);
    });
  });
  return y.to(dtype);
}

at::Tensor rmsNormBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverseRms,
                           at::Tensor* dWeight) {
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
  if (dWeight) *dWeight = at::sum(d * input * inverseRms.unsqueeze(1), {0}).to(weight.scalar_type());
  return dx.to(x.scalar_type());
}

at::Tensor gate(const at::Tensor& gate, const at::Tensor& up) {
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

std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
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

}  // namespace slimtune
