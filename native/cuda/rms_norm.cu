// RMSNorm (https://arxiv.org/abs/1910.07467); one block for each row.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <int kWidth, typename X, typename W, typename Y>
__global__ void forwardKernel(const X* x, int64_t xStride, const W* weight, float eps, int64_t width, Y* y,
                              float* inverseRms) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  x += row * xStride;
  y += row * width;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto v = load<kWidth>(x, i);
    for (int e = 0; e < kWidth; e++) squares += wide(v.element[e]) * wide(v.element[e]);
  }
  const float inverse = rsqrtf(overBlock<Sum>(squares) / width + eps);
  if (threadIdx.x == 0) inverseRms[row] = inverse;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    Pack<Y, kWidth> out;
    for (int e = 0; e < kWidth; e++) out.element[e] = narrow<Y>(wide(w.element[e]) * (wide(v.element[e]) * inverse));
    store(y, i, out);
  }
}

/// With n = x/rms: dx = (dy·w - n · mean(dy·w·n)) / rms
template <int kWidth, typename D, typename X, typename W>
__global__ void backwardKernel(const D* dy, int64_t dyStride, const X* x, int64_t xStride, const W* weight,
                               const float* inverseRms, int64_t width, X* dx) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  dy += row * dyStride;
  x += row * xStride;
  dx += row * width;
  const float inverse = inverseRms[row];
  float dot = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto d = load<kWidth>(dy, i);
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    for (int e = 0; e < kWidth; e++) dot += wide(d.element[e]) * wide(w.element[e]) * (wide(v.element[e]) * inverse);
  }
  const float mean = overBlock<Sum>(dot) / width;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto d = load<kWidth>(dy, i);
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    Pack<X, kWidth> out;
    for (int e = 0; e < kWidth; e++) {
      const float normed = wide(v.element[e]) * inverse;
      out.element[e] = narrow<X>((wide(d.element[e]) * wide(w.element[e]) - normed * mean) * inverse);
    }
    store(dx, i, out);
  }
}

/// A thread adds up one column over kWeightRows rows: the order is the same every time.
template <typename D, typename X>
__global__ void backwardWeightKernel(const D* dy, int64_t dyStride, const X* x, int64_t xStride,
                                     const float* inverseRms, int64_t rows, int64_t width, float* partial) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= width) return;
  const int64_t begin = blockIdx.y * kWeightRows;
  const int64_t end = begin + kWeightRows < rows ? begin + kWeightRows : rows;
  float total = 0;
  for (int64_t row = begin; row < end; row++) {
    total += wide(dy[row * dyStride + column]) * (wide(x[row * xStride + column]) * inverseRms[row]);
  }
  partial[blockIdx.y * width + column] = total;
}

}  // namespace

void rmsNorm(Rows x, Rows weight, float eps, int64_t rows, int64_t width, Rows y, float* inverseRms,
             cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(x.dtype, [&](auto xType) {
      withType(weight.dtype, [&](auto weightType) {
        withType(y.dtype, [&](auto yType) {
          using X = decltype(xType);
          using W = decltype(weightType);
          using Y = decltype(yType);
          launch(forwardKernel<kWidth, X, W, Y>, dim3(static_cast<unsigned>(rows)), threadsFor(width / kWidth), stream,
                 static_cast<const X*>(x.data), x.stride, static_cast<const W*>(weight.data), eps, width,
                 static_cast<Y*>(y.data), inverseRms);
        });
      });
    });
  };
  withWidth(width, run, x, weight, y);
}

void rmsNormBackward(Rows dy, Rows x, Rows weight, const float* inverseRms, int64_t rows, int64_t width, Rows dx,
                     cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(dy.dtype, [&](auto dyType) {
      withType(x.dtype, [&](auto xType) {
        withType(weight.dtype, [&](auto weightType) {
          using D = decltype(dyType);
          using X = decltype(xType);
          using W = decltype(weightType);
          launch(backwardKernel<kWidth, D, X, W>, dim3(static_cast<unsigned>(rows)), threadsFor(width / kWidth), stream,
                 static_cast<const D*>(dy.data), dy.stride, static_cast<const X*>(x.data), x.stride,
                 static_cast<const W*>(weight.data), inverseRms, width, static_cast<X*>(dx.data));
        });
      });
    });
  };
  withWidth(width, run, dy, x, weight, dx);
}

void rmsNormBackwardWeight(Rows dy, Rows x, const float* inverseRms, int64_t rows, int64_t width, float* partial,
                           cudaStream_t stream) {
  if (rows == 0 || width == 0) return;
  constexpr unsigned kThreads = 128;
  const dim3 blocks(static_cast<unsigned>((width + kThreads - 1) / kThreads),
                    static_cast<unsigned>((rows + kWeightRows - 1) / kWeightRows));
  withType(dy.dtype, [&](auto dyType) {
    withType(x.dtype, [&](auto xType) {
      using D = decltype(dyType);
      using X = decltype(xType);
      launch(backwardWeightKernel<D, X>, blocks, kThreads, stream, static_cast<const D*>(dy.data), dy.stride,
             static_cast<const X*>(x.data), x.stride, inverseRms, rows, width, partial);
    });
  });
}

}  // namespace slimtune::cuda
