// One block of classes of a softmax whose classes come block by block (native/src/softmax_block.cc); one block of threads
// for each row.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

/// With a cap the logits are cap·tanh(z / cap) of the values given, and what is written is exp · d logit/dz.
template <bool kCapped, int kWidth>
__global__ void expBlockKernel(float* logits, int64_t stride, const int64_t* targets, int64_t first, int64_t classes, float cap,
                               float* most, float* others, float* targetLogit, float* factor) {
  const int64_t row = blockIdx.x, packs = classes / kWidth, target = targets[row] - first;
  logits += row * stride;
  const float before = most[row];
  float largest = before;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    auto z = load<kWidth>(logits, i);
    if constexpr (kCapped) {
      for (int e = 0; e < kWidth; e++) z.element[e] = cap * tanhf(z.element[e] / cap);
      store(logits, i, z);  // read by the same thread
    }
    for (int e = 0; e < kWidth; e++) largest = Max::of(largest, z.element[e]);
  }
  largest = overBlock<Max>(largest);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    auto z = load<kWidth>(logits, i);
    for (int e = 0; e < kWidth; e++) {
      const bool own = i * kWidth + e == target;
      if (own) targetLogit[row] = z.element[e];
      const float share = kCapped ? z.element[e] / cap : 0.f;
      const float exponential = own ? 0.f : expf(z.element[e] - largest);
      z.element[e] = exponential * (1.f - share * share);
      sum += exponential;
    }
    store(logits, i, z);
  }
  sum = overBlock<Sum>(sum);
  if (threadIdx.x != 0) return;
  const float scale = expf(before - largest);
  most[row] = largest;
  others[row] = others[row] * scale + sum;
  factor[row] = scale;
}

}  // namespace

void expBlock(float* logits, int64_t stride, const int64_t* targets, int64_t first, int64_t rows, int64_t classes, float cap,
              float* most, float* others, float* targetLogit, float* factor, cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    launch(cap > 0 ? expBlockKernel<true, kWidth> : expBlockKernel<false, kWidth>, dim3(static_cast<unsigned>(rows)), threadsFor(classes / kWidth), stream, logits,
           stride, targets, first, classes, cap, most, others, targetLogit, factor);
  };
  withWidth(classes, run, Rows{logits, Dtype::f32, stride});
}

}  // namespace slimtune::cuda
