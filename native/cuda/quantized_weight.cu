// Rows of a quantized weight as numbers. Products and sums are rounded one by one, as on the CPU.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kWeightBlock = 64, kMagnitudeBlock = 256;

template <bool kNested>
__device__ inline float magnitudeOf(const QuantizedWeight& weight, int64_t block) {
  if constexpr (!kNested) return static_cast<const float*>(weight.magnitudes)[block];
  const float value = weight.nestedValues[static_cast<const uint8_t*>(weight.magnitudes)[block]];
  return __fadd_rn(__fmul_rn(value, weight.nestedMagnitudes[block / kMagnitudeBlock]), *weight.offset);
}

/// kBytes of codes for each thread, which lie in one block; first: of the rows' elements, even.
template <int kBytes, bool kNested, typename T>
__global__ void kernel4bit(QuantizedWeight weight, int64_t first, int64_t packs, T* out) {
  __shared__ float values[16];
  if (threadIdx.x < 16) values[threadIdx.x] = weight.values[threadIdx.x];
  __syncthreads();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= packs) return;
  const auto codes = load<kBytes>(static_cast<const uint8_t*>(weight.codes) + first / 2, i);
  const float magnitude = magnitudeOf<kNested>(weight, (first + i * kBytes * 2) / kWeightBlock);
  Pack<T, 2 * kBytes> numbers;
  for (int e = 0; e < kBytes; e++) {
    numbers.element[2 * e] = narrow<T>(values[codes.element[e] >> 4] * magnitude);
    numbers.element[2 * e + 1] = narrow<T>(values[codes.element[e] & 15] * magnitude);
  }
  store(out, i, numbers);
}

template <typename T>
__global__ void kernel8bit(QuantizedWeight weight, int64_t begin, int64_t width, int64_t count, T* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float scale = static_cast<const float*>(weight.magnitudes)[begin + i / width] * static_cast<float>(1. / 127);
  const int8_t code = static_cast<const int8_t*>(weight.codes)[begin * width + i];
  out[i] = narrow<T>(static_cast<float>(code) * scale);
}

dim3 blocksFor(int64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

}  // namespace

void dequantize4bit(const QuantizedWeight& weight, int64_t begin, int64_t rows, int64_t width, void* out, Dtype dtype,
                    cudaStream_t stream) {
  const int64_t first = begin * width, count = rows * width;
  if (count == 0) return;
  const auto run = [&](auto bytes, auto nested) {
    constexpr int kBytes = decltype(bytes)::value;
    withType(dtype, [&](auto type) {
      using T = decltype(type);
      const int64_t packs = count / (2 * kBytes);
      launch(kernel4bit<kBytes, decltype(nested)::value, T>, blocksFor(packs), kThreads, stream, weight, first, packs,
             static_cast<T*>(out));
    });
  };
  const auto choose = [&](auto bytes) {
    weight.nestedValues ? run(bytes, std::true_type{}) : run(bytes, std::false_type{});
  };
  const bool aligned = width % 8 == 0 && reinterpret_cast<uintptr_t>(weight.codes) % 4 == 0 &&
                       reinterpret_cast<uintptr_t>(out) % 32 == 0;
  aligned ? choose(std::integral_constant<int, 4>{}) : choose(std::integral_constant<int, 1>{});
}

void dequantize8bit(const QuantizedWeight& weight, int64_t begin, int64_t rows, int64_t width, void* out, Dtype dtype,
                    cudaStream_t stream) {
  const int64_t count = rows * width;
  if (count == 0) return;
  withType(dtype, [&](auto type) {
    using T = decltype(type);
    launch(kernel8bit<T>, blocksFor(count), kThreads, stream, weight, begin, width, count, static_cast<T*>(out));
  });
}

}  // namespace slimtune::cuda
