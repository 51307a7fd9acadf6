// Softmax cross entropy of a row of logits and, in their place, its gradient; one block for each row.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <int kWidth, typename T>
__global__ void crossEntropyKernel(T* logits, int64_t stride, const int64_t* targets, float smoothing, float scale,
                                   bool gradient, int64_t classes, float* loss) {
  const int64_t row = blockIdx.x, packs = classes / kWidth;
  logits += row * stride;
  const int64_t target = targets[row];
  const bool known = target >= 0 && target < classes;
  const float atTarget = known ? wide(logits[target]) : NAN;  // read by all before any thread writes below

  // One pass for the largest and for Σ exp(z - largest), which is put right whenever a larger one comes.
  float largest = -INFINITY, sum = 0, plain = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto z = load<kWidth>(logits, i);
    for (int e = 0; e < kWidth; e++) {
      const float value = wide(z.element[e]);
      plain += value;
      if (value > largest) {
        sum = sum * expf(largest - value) + 1.f;
        largest = value;
      } else {
        sum += expf(value - largest);
      }
    }
  }
  const float top = overBlock<Max>(largest);
  const float total = overBlock<Sum>(largest == -INFINITY ? 0.f : sum * expf(largest - top));
  const float mean = overBlock<Sum>(plain) / classes;
  const float logSum = top + logf(total);
  if (threadIdx.x == 0) loss[row] = (1.f - smoothing) * (logSum - atTarget) + smoothing * (logSum - mean);
  if (!gradient) return;
  const float spread = smoothing / classes;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    auto z = load<kWidth>(logits, i);
    for (int e = 0; e < kWidth; e++) {
      const float wanted = spread + (i * kWidth + e == target ? 1.f - smoothing : 0.f);
      z.element[e] = narrow<T>(scale * (expf(wide(z.element[e]) - logSum) - wanted));
    }
    store(logits, i, z);
  }
}

}  // namespace

void crossEntropy(Rows logits, const int64_t* targets, float smoothing, float scale, bool gradient, int64_t rows,
                  int64_t classes, float* loss, cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    withType(logits.dtype, [&](auto type) {
      using T = decltype(type);
      launch(crossEntropyKernel<kWidth, T>, dim3(static_cast<unsigned>(rows)), threadsFor(classes / kWidth), stream,
             static_cast<T*>(logits.data), logits.stride, targets, smoothing, scale, gradient, classes, loss);
    });
  };
  withWidth(classes, run, logits);
}

}  // namespace slimtune::cuda
