// SwiGLU (https://arxiv.org/abs/2002.05202): silu(gate) · up, in one pass each way.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

__device__ inline float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

template <int kWidth, typename T>
__global__ void forwardKernel(const T* gate, int64_t gateStride, const T* up, int64_t upStride, int64_t width, T* y) {
  const int64_t row = blockIdx.y, i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width / kWidth) return;
  const auto g = load<kWidth>(gate + row * gateStride, i);
  const auto u = load<kWidth>(up + row * upStride, i);
  Pack<T, kWidth> out;
  for (int e = 0; e < kWidth; e++) {
    const float x = wide(g.element[e]);
    out.element[e] = narrow<T>(x * sigmoid(x) * wide(u.element[e]));
  }
  store(y + row * width, i, out);
}

template <int kWidth, typename T>
__global__ void backwardKernel(const T* dy, int64_t dyStride, const T* gate, int64_t gateStride, const T* up,
                               int64_t upStride, int64_t width, T* dGate, T* dUp) {
  const int64_t row = blockIdx.y, i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width / kWidth) return;
  const auto d = load<kWidth>(dy + row * dyStride, i);
  const auto g = load<kWidth>(gate + row * gateStride, i);
  const auto u = load<kWidth>(up + row * upStride, i);
  Pack<T, kWidth> outGate, outUp;
  for (int e = 0; e < kWidth; e++) {
    const float x = wide(g.element[e]), s = sigmoid(x);
    outGate.element[e] = narrow<T>(wide(d.element[e]) * wide(u.element[e]) * s * (1.f + x * (1.f - s)));
    outUp.element[e] = narrow<T>(wide(d.element[e]) * x * s);
  }
  store(dGate + row * width, i, outGate);
  store(dUp + row * width, i, outUp);
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

}  // namespace

void swiglu(Rows gate, Rows up, int64_t rows, int64_t width, Rows y, cudaStream_t stream) {
  if (width == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(gate.dtype, [&](auto type) {
      using T = decltype(type);
      eachGrid(rows, [&](int64_t first, int64_t count) {
        launch(forwardKernel<kWidth, T>, gridFor(width / kWidth, count), kThreads, stream,
               static_cast<const T*>(gate.data) + first * gate.stride, gate.stride,
               static_cast<const T*>(up.data) + first * up.stride, up.stride, width,
               static_cast<T*>(y.data) + first * width);
      });
    });
  };
  withWidth(width, run, gate, up, y);
}

void swigluBackward(Rows dy, Rows gate, Rows up, int64_t rows, int64_t width, Rows dGate, Rows dUp,
                   cudaStream_t stream) {
  if (width == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(gate.dtype, [&](auto type) {
      using T = decltype(type);
      eachGrid(rows, [&](int64_t first, int64_t count) {
        launch(backwardKernel<kWidth, T>, gridFor(width / kWidth, count), kThreads, stream,
               static_cast<const T*>(dy.data) + first * dy.stride, dy.stride,
               static_cast<const T*>(gate.data) + first * gate.stride, gate.stride,
               static_cast<const T*>(up.data) + first * up.stride, up.stride, width,
               static_cast<T*>(dGate.data) + first * width, static_cast<T*>(dUp.data) + first * width);
      });
    });
  };
  withWidth(width, run, dy, gate, up, dGate, dUp);
}

}  // namespace slimtune::cuda
