// One block of classes of a softmax whose classes come block by block (native/src/softmax_block.cc); one block of threads
// for each row.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <int kWidth>
__global__ void expBlockKernel(float* logits, int64_t stride, const int64_t* targets, int64_t first, int64_t classes,
                               float* most, float* others, float* targetLogit, float* factor) {
  const int64_t row = blockIdx.x, packs = classes / kWidth, target = targets[row] - first;
  logits += row * stride;
  const float before = most[row];
  float largest = before;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto z = load<kWidth>(logits, i);
    for (int e = 0; e < kWidth; e++) largest = Max::of(largest, z.element[e]);
  }
  largest = overBlock<Max>(largest);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    auto z = load<kWidth>(logits, i);
    for (int e = 0; e < kWidth; e++) {
      const bool own = i * kWidth + e == target;
      if (own) targetLogit[row] = z.element[e];
      z.element[e] = own ? 0.f : expf(z.element[e] - largest);
      sum += z.element[e];
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

void expBlock(float* logits, int64_t stride, const int64_t* targets, int64_t first, int64_t rows, int64_t classes,
              float* most, float* others, float* targetLogit, float* factor, cudaStream_t stream) {
  if (rows == 0) return;
  const auto run = [&](auto packed) {
    constexpr int kWidth = decltype(packed)::value;
    launch(expBlockKernel<kWidth>, dim3(static_cast<unsigned>(rows)), threadsFor(classes / kWidth), stream, logits,
           stride, targets, first, classes, most, others, targetLogit, factor);
  };
  withWidth(classes, run, Rows{logits, Dtype::f32, stride});
}

}  // namespace slimtune::cuda
