// What the kernels share: element types, packs of elements, sums over a block, launches.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace slimtune::cuda {

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float wide(__half x) { return __half2float(x); }

template <typename T>
__device__ inline T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}

/// kWidth elements that are loaded or stored at once.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T element[kWidth];
};

template <int kWidth, typename T>
__device__ inline Pack<T, kWidth> load(const T* row, int64_t pack) {
  return reinterpret_cast<const Pack<T, kWidth>*>(row)[pack];
}
template <int kWidth, typename T>
__device__ inline void store(T* row, int64_t pack, const Pack<T, kWidth>& value) {
  reinterpret_cast<Pack<T, kWidth>*>(row)[pack] = value;
}

constexpr int kWarp = 32;

struct Sum {
  static __device__ float none() { return 0.f; }
  static __device__ float of(float a, float b) { return a + b; }
};
struct Max {
  static __device__ float none() { return -INFINITY; }
  static __device__ float of(float a, float b) { return a > b ? a : b; }
};

/// All threads' values together, in every thread; a block has whole warps.
template <typename Reduction>
__device__ inline float overBlock(float value) {
  __shared__ float ofWarp[kWarp];
  const auto overWarp = [](float x) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      x = Reduction::of(x, __shfl_xor_sync(0xffffffffu, x, distance));
    }
    return x;
  };
  value = overWarp(value);
  const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (lane == 0) ofWarp[warp] = value;
  __syncthreads();
  value = overWarp(lane < blockDim.x / kWarp ? ofWarp[lane] : Reduction::none());
  __syncthreads();  // the next call writes to the same place
  return value;
}

/// Calls body(T{}) with the C++ type of a dtype.
template <typename Body>
void withType(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::f32: return body(float{});
    case Dtype::bf16: return body(__nv_bfloat16{});
    case Dtype::f16: return body(__half{});
  }
}

inline int64_t elementBytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

/// Whether each row can be read in packs of four.
inline bool packable(const Rows& rows, int64_t width) {
  const int64_t bytes = 4 * elementBytes(rows.dtype);
  return width % 4 == 0 && rows.stride % 4 == 0 && reinterpret_cast<uintptr_t>(rows.data) % bytes == 0;
}

/// Calls body(std::integral_constant<int, 4 or 1>) for rows that are read together.
template <typename Body, typename... Each>
void withWidth(int64_t width, const Body& body, const Each&... each) {
  if ((packable(each, width) && ...)) {
    body(std::integral_constant<int, 4>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

/// Threads for a block that goes along a row: whole warps, at most 1,024.
inline unsigned threadsFor(int64_t packs) {
  return static_cast<unsigned>(std::clamp<int64_t>((packs + kWarp - 1) / kWarp * kWarp, kWarp, 1024));
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, unsigned threads, cudaStream_t stream, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error != cudaSuccess) throw std::runtime_error(std::string("a kernel did not start: ") + cudaGetErrorString(error));
}

}  // namespace slimtune::cuda
