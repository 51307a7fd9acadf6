// RMSNorm (https://arxiv.org/abs/1910.07467), with the residual's addition before it; one block for each row.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <int kWidth, typename X, typename W, typename Y>
__global__ void forwardKernel(const X* x, int64_t xStride, const float* residual, const W* weight, float eps,
                              int64_t width, Y* y, int64_t yStride, float* sum, float* inverseRms) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  x += row * xStride;
  y += row * yStride;
  if (residual) residual += row * width;
  if (sum) sum += row * width;
  const auto values = [&](int64_t i) {
    Pack<float, kWidth> s;
    const auto own = load<kWidth>(x, i);
    for (int e = 0; e < kWidth; e++) s.element[e] = wide(own.element[e]);
    if (residual) {
      const auto other = load<kWidth>(residual, i);
      for (int e = 0; e < kWidth; e++) s.element[e] += other.element[e];
    }
    return s;
  };
  float squares = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto s = values(i);
    for (int e = 0; e < kWidth; e++) squares += s.element[e] * s.element[e];
    if (sum) store(sum, i, s);
  }
  const float inverse = rsqrtf(overBlock<Sum>(squares) / width + eps);
  if (threadIdx.x == 0) inverseRms[row] = inverse;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto s = values(i);
    const auto w = load<kWidth>(weight, i);
    Pack<Y, kWidth> out;
    for (int e = 0; e < kWidth; e++) out.element[e] = narrow<Y>(wide(w.element[e]) * (s.element[e] * inverse));
    store(y, i, out);
  }
}

/// With n = x/rms: dx = (dy·w - n · mean(dy·w·n)) / rms
template <int kWidth, typename D, typename X, typename W>
__global__ void backwardKernel(const D* dy, int64_t dyStride, const X* x, int64_t xStride, const W* weight,
                               const float* inverseRms, const float* dSum, int64_t width, X* dx) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  dy += row * dyStride;
  x += row * xStride;
  dx += row * width;
  if (dSum) dSum += row * width;
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
    Pack<float, kWidth> other{};
    if (dSum) other = load<kWidth>(dSum, i);
    Pack<X, kWidth> out;
    for (int e = 0; e < kWidth; e++) {
      const float normed = wide(v.element[e]) * inverse;
      const float own = (wide(d.element[e]) * wide(w.element[e]) - normed * mean) * inverse;
      out.element[e] = narrow<X>(own + other.element[e]);
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

Rows without(const float* data, int64_t width) { return {const_cast<float*>(data), Dtype::f32, width}; }

}  // namespace

void rmsNorm(Rows x, const float* residual, Rows weight, float eps, int64_t rows, int64_t width, Rows y, float* sum,
             float* inverseRms, cudaStream_t stream) {
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
                 static_cast<const X*>(x.data), x.stride, residual, static_cast<const W*>(weight.data), eps, width,
                 static_cast<Y*>(y.data), y.stride, sum, inverseRms);
        });
      });
    });
  };
  withWidth(width, run, x, without(residual, width), weight, y, without(sum, width));
}

void rmsNormBackward(Rows dy, Rows x, Rows weight, const float* inverseRms, const float* dSum, int64_t rows,
                     int64_t width, Rows dx, cudaStream_t stream) {
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
                 static_cast<const W*>(weight.data), inverseRms, dSum, width, static_cast<X*>(dx.data));
        });
      });
    });
  };
  withWidth(width, run, dy, x, weight, without(dSum, width), dx);
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
