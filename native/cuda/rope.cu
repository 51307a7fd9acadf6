// Rotary position embedding (https://arxiv.org/abs/2104.09864): element i turns with i + half, or where they are interleaved
// 2i with 2i + 1; what lies behind the pairs passes through.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

/// A thread for each pair, and for each element that passes through: `each` of them to a head.
template <typename T>
__global__ void ropeKernel(const T* x, int64_t rowStride, int64_t headStride, const float* cos, const float* sin,
                           float direction, bool interleaved, int64_t count, int64_t each, int64_t heads, int64_t half,
                           int64_t dim, T* y) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;  // of all rows and heads
  if (place >= count) return;
  const int64_t i = place % each, head = place / each % heads, row = place / each / heads;
  const T* in = x + row * rowStride + head * headStride;
  T* out = y + (row * heads + head) * dim;
  if (i >= half) {
    out[half + i] = in[half + i];
    return;
  }
  const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
  const float a = wide(in[first]), b = wide(in[second]);
  const float c = cos[row * half + i], s = direction * sin[row * half + i];
  out[first] = narrow<T>(a * c - b * s);
  out[second] = narrow<T>(b * c + a * s);
}

}  // namespace

void rope(Rows x, int64_t headStride, const float* cos, const float* sin, bool inverse, bool interleaved, int64_t rows,
          int64_t heads, int64_t dim, int64_t half, Rows y, cudaStream_t stream) {
  const int64_t each = dim - half, count = rows * heads * each;
  if (count == 0) return;
  constexpr unsigned kThreads = 256;
  withType(x.dtype, [&](auto type) {
    using T = decltype(type);
    launch(ropeKernel<T>, dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)), kThreads, stream,
           static_cast<const T*>(x.data), x.stride, headStride, cos, sin, inverse ? -1.f : 1.f, interleaved, count, each, heads,
           half, dim, static_cast<T*>(y.data));
  });
}

}  // namespace slimtune::cuda
