// Norms of rows (native/src/norm.h has the formulas); one block of threads for each row. `mean` is null where rows are not
// centered: all threads take the same way there.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <int kWidth, typename X, typename W, typename Y>
__global__ void forwardKernel(const X* x, int64_t xStride, const W* weight, const W* bias, float eps, int64_t width, Y* y,
                              const Y* residual, int64_t residualStride, float* inverseOf, float* meanOf) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  x += row * xStride;
  y += row * width;
  float mean = 0;
  if (meanOf != nullptr) {
    float sum = 0;
    for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
      const auto v = load<kWidth>(x, i);
      for (int e = 0; e < kWidth; e++) sum += wide(v.element[e]);
    }
    mean = overBlock<Sum>(sum) / width;
    if (threadIdx.x == 0) meanOf[row] = mean;
  }
  float squares = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto v = load<kWidth>(x, i);
    for (int e = 0; e < kWidth; e++) squares += (wide(v.element[e]) - mean) * (wide(v.element[e]) - mean);
  }
  const float inverse = rsqrtf(overBlock<Sum>(squares) / width + eps);
  if (threadIdx.x == 0) inverseOf[row] = inverse;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    float values[kWidth];
    for (int e = 0; e < kWidth; e++) values[e] = wide(w.element[e]) * ((wide(v.element[e]) - mean) * inverse);
    if (bias != nullptr) {
      const auto b = load<kWidth>(bias, i);
      for (int e = 0; e < kWidth; e++) values[e] += wide(b.element[e]);
    }
    if (residual != nullptr) {
      const auto r = load<kWidth>(residual + row * residualStride, i);
      for (int e = 0; e < kWidth; e++) values[e] += wide(r.element[e]);
    }
    Pack<Y, kWidth> out;
    for (int e = 0; e < kWidth; e++) out.element[e] = narrow<Y>(values[e]);
    store(y, i, out);
  }
}

/// With n = (x - mean)·inverse and d = dy·w: dx = (d - n · mean(d·n)) · inverse, where rows are centered less the mean of d.
template <int kWidth, typename D, typename X, typename W>
__global__ void backwardKernel(const D* dy, int64_t dyStride, const X* x, int64_t xStride, const W* weight,
                               const float* inverseOf, const float* meanOf, int64_t width, X* dx) {
  const int64_t row = blockIdx.x, packs = width / kWidth;
  dy += row * dyStride;
  x += row * xStride;
  dx += row * width;
  const float inverse = inverseOf[row], middle = meanOf != nullptr ? meanOf[row] : 0;
  float dot = 0, sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto d = load<kWidth>(dy, i);
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    for (int e = 0; e < kWidth; e++) {
      const float scaled = wide(d.element[e]) * wide(w.element[e]);
      dot += scaled * ((wide(v.element[e]) - middle) * inverse);
      sum += scaled;
    }
  }
  const float slope = overBlock<Sum>(dot) / width;
  const float mean = meanOf != nullptr ? overBlock<Sum>(sum) / width : 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto d = load<kWidth>(dy, i);
    const auto v = load<kWidth>(x, i);
    const auto w = load<kWidth>(weight, i);
    Pack<X, kWidth> out;
    for (int e = 0; e < kWidth; e++) {
      const float normed = (wide(v.element[e]) - middle) * inverse;
      out.element[e] = narrow<X>((wide(d.element[e]) * wide(w.element[e]) - mean - normed * slope) * inverse);
    }
    store(dx, i, out);
  }
}

/// A thread adds up one column over kWeightRows rows: the order is the same every time.
template <typename D, typename X>
__global__ void backwardWeightKernel(const D* dy, int64_t dyStride, const X* x, int64_t xStride, const float* inverseOf,
                                     const float* meanOf, int64_t rows, int64_t width, float* weightSums, float* biasSums) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= width) return;
  const int64_t begin = blockIdx.y * kWeightRows;
  const int64_t end = begin + kWeightRows < rows ? begin + kWeightRows : rows;
  float total = 0, sum = 0;
  for (int64_t row = begin; row < end; row++) {
    const float d = wide(dy[row * dyStride + column]), middle = meanOf != nullptr ? meanOf[row] : 0;
    total += d * ((wide(x[row * xStride + column]) - middle) * inverseOf[row]);
    sum += d;
  }
  weightSums[blockIdx.y * width + column] = total;
  if (biasSums != nullptr) biasSums[blockIdx.y * width + column] = sum;
}

}  // namespace

void norm(Rows x, Rows weight, Rows bias, float eps, int64_t rows, int64_t width, Rows y, Rows residual, float* inverse,
          float* mean, cudaStream_t stream) {
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
                 static_cast<const X*>(x.data), x.stride, static_cast<const W*>(weight.data),
                 static_cast<const W*>(bias.data), eps, width, static_cast<Y*>(y.data),
                 static_cast<const Y*>(residual.data), residual.stride, inverse, mean);
        });
      });
    });
  };
  withWidth(width, run, x, weight, bias, y, residual);
}

void normBackward(Rows dy, Rows x, Rows weight, const float* inverse, const float* mean, int64_t rows, int64_t width, Rows dx,
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
                 static_cast<const W*>(weight.data), inverse, mean, width, static_cast<X*>(dx.data));
        });
      });
    });
  };
  withWidth(width, run, dy, x, weight, dx);
}

void normBackwardWeight(Rows dy, Rows x, const float* inverse, const float* mean, int64_t rows, int64_t width,
                        float* weightSums, float* biasSums, cudaStream_t stream) {
  if (rows == 0 || width == 0) return;
  constexpr unsigned kThreads = 128;
  const dim3 blocks(static_cast<unsigned>((width + kThreads - 1) / kThreads),
                    static_cast<unsigned>((rows + kWeightRows - 1) / kWeightRows));
  withType(dy.dtype, [&](auto dyType) {
    withType(x.dtype, [&](auto xType) {
      using D = decltype(dyType);
      using X = decltype(xType);
      launch(backwardWeightKernel<D, X>, blocks, kThreads, stream, static_cast<const D*>(dy.data), dy.stride,
             static_cast<const X*>(x.data), x.stride, inverse, mean, rows, width, weightSums, biasSums);
    });
  });
}

}  // namespace slimtune::cuda
