// Activations of MLPs, activation(gate) · up or activation(gate) alone, in one pass each way. `up` is null where there is
// none. SwiGLU: https://arxiv.org/abs/2002.05202
#include "device.cuh"

namespace slimtune::cuda {
namespace {

/// The value at x, and the slope there.
struct Silu {
  static __device__ float value(float x, float& slope) {
    const float s = 1.f / (1.f + expf(-x));
    slope = s * (1.f + x * (1.f - s));
    return x * s;
  }
};

struct Gelu {
  static __device__ float value(float x, float& slope) {
    const float below = 0.5f * erfcf(-0.70710678f * x);
    slope = below + x * 0.39894228f * expf(-0.5f * x * x);
    return x * below;
  }
};

/// x·(1 + tanh u)/2 is x·sigmoid(2u).
struct GeluTanh {
  static __device__ float value(float x, float& slope) {
    const float s = 1.f / (1.f + expf(-1.59576912f * (x + 0.044715f * x * x * x)));
    slope = s + x * s * (1.f - s) * 1.59576912f * (1.f + 0.134145f * x * x);
    return x * s;
  }
};

struct SquaredRelu {
  static __device__ float value(float x, float& slope) {
    const float positive = x <= 0.f ? 0.f : x;  // NaN stays NaN
    slope = 2.f * positive;
    return positive * positive;
  }
};

struct Relu {
  static __device__ float value(float x, float& slope) {
    slope = x <= 0.f ? 0.f : 1.f;
    return x <= 0.f ? 0.f : x;
  }
};

template <class Formula, int kWidth, typename T>
__global__ void forwardKernel(const T* gate, int64_t gateStride, const T* up, int64_t upStride, int64_t width, T* y) {
  const int64_t row = blockIdx.y, i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width / kWidth) return;
  const auto g = load<kWidth>(gate + row * gateStride, i);
  float values[kWidth], slope;
  for (int e = 0; e < kWidth; e++) values[e] = Formula::value(wide(g.element[e]), slope);
  if (up != nullptr) {
    const auto u = load<kWidth>(up + row * upStride, i);
    for (int e = 0; e < kWidth; e++) values[e] *= wide(u.element[e]);
  }
  Pack<T, kWidth> out;
  for (int e = 0; e < kWidth; e++) out.element[e] = narrow<T>(values[e]);
  store(y + row * width, i, out);
}

template <class Formula, int kWidth, typename T>
__global__ void backwardKernel(const T* dy, int64_t dyStride, const T* gate, int64_t gateStride, const T* up,
                               int64_t upStride, int64_t width, T* dGate, T* dUp) {
  const int64_t row = blockIdx.y, i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width / kWidth) return;
  const auto d = load<kWidth>(dy + row * dyStride, i);
  const auto g = load<kWidth>(gate + row * gateStride, i);
  float values[kWidth], slopes[kWidth];
  for (int e = 0; e < kWidth; e++) values[e] = Formula::value(wide(g.element[e]), slopes[e]);
  Pack<T, kWidth> out;
  if (up != nullptr) {
    for (int e = 0; e < kWidth; e++) out.element[e] = narrow<T>(wide(d.element[e]) * values[e]);
    store(dUp + row * width, i, out);
    const auto u = load<kWidth>(up + row * upStride, i);
    for (int e = 0; e < kWidth; e++) slopes[e] *= wide(u.element[e]);
  }
  for (int e = 0; e < kWidth; e++) out.element[e] = narrow<T>(wide(d.element[e]) * slopes[e]);
  store(dGate + row * width, i, out);
}

/// Calls body(formula) with its type.
template <typename Body>
void withFormula(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::silu: return body(Silu{});
    case Activation::gelu: return body(Gelu{});
    case Activation::geluTanh: return body(GeluTanh{});
    case Activation::relu2: return body(SquaredRelu{});
    case Activation::relu: return body(Relu{});
  }
}

constexpr unsigned kThreads = 128;
constexpr int64_t kMostRows = 65535;  // of a grid's second dimension

/// Calls body(first, count) for as many rows as a grid takes.
template <typename Body>
void eachGrid(int64_t rows, const Body& body) {
  for (int64_t first = 0; first < rows; first += kMostRows) body(first, std::min(kMostRows, rows - first));
}

dim3 gridFor(int64_t packs, int64_t rows) {
  return dim3(static_cast<unsigned>((packs + kThreads - 1) / kThreads), static_cast<unsigned>(rows));
}

/// Rows from the first on, null where there are none.
template <typename T>
const T* from(const Rows& rows, int64_t first) {
  return rows.data == nullptr ? nullptr : static_cast<const T*>(rows.data) + first * rows.stride;
}

}  // namespace

void gate(Activation activation, Rows gate, Rows up, int64_t rows, int64_t width, Rows y, cudaStream_t stream) {
  if (width == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(gate.dtype, [&](auto type) {
      using T = decltype(type);
      withFormula(activation, [&](auto formula) {
        eachGrid(rows, [&](int64_t first, int64_t count) {
          launch(forwardKernel<decltype(formula), kWidth, T>, gridFor(width / kWidth, count), kThreads, stream,
                 static_cast<const T*>(gate.data) + first * gate.stride, gate.stride, from<T>(up, first), up.stride, width,
                 static_cast<T*>(y.data) + first * width);
        });
      });
    });
  };
  withWidth(width, run, gate, up, y);
}

void gateBackward(Activation activation, Rows dy, Rows gate, Rows up, int64_t rows, int64_t width, Rows dGate, Rows dUp,
                  cudaStream_t stream) {
  if (width == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(gate.dtype, [&](auto type) {
      using T = decltype(type);
      withFormula(activation, [&](auto formula) {
        eachGrid(rows, [&](int64_t first, int64_t count) {
          launch(backwardKernel<decltype(formula), kWidth, T>, gridFor(width / kWidth, count), kThreads, stream,
                 static_cast<const T*>(dy.data) + first * dy.stride, dy.stride,
                 static_cast<const T*>(gate.data) + first * gate.stride, gate.stride, from<T>(up, first), up.stride, width,
                 static_cast<T*>(dGate.data) + first * width,
                 dUp.data == nullptr ? nullptr : static_cast<T*>(dUp.data) + first * width);
        });
      });
    });
  };
  withWidth(width, run, dy, gate, up, dGate, dUp);
}

}  // namespace slimtune::cuda
