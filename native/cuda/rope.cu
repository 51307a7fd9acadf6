// Rotary position embedding (https://arxiv.org/abs/2104.09864) in Hugging Face's layout: element i turns with i + dim/2.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

template <typename T>
__global__ void ropeKernel(const T* x, int64_t rowStride, int64_t headStride, const float* cos, const float* sin,
                           float direction, int64_t pairs, int64_t heads, int64_t half, T* y) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;  // of all rows and heads
  if (pair >= pairs) return;
  const int64_t i = pair % half, head = pair / half % heads, row = pair / half / heads;
  const T* in = x + row * rowStride + head * headStride + i;
  T* out = y + (row * heads + head) * 2 * half + i;
  const float a = wide(in[0]), b = wide(in[half]);
  const float c = cos[row * half + i], s = direction * sin[row * half + i];
  out[0] = narrow<T>(a * c - b * s);
  out[half] = narrow<T>(b * c + a * s);
}

}  // namespace

void rope(Rows x, int64_t headStride, const float* cos, const float* sin, bool inverse, int64_t rows, int64_t heads,
          int64_t dim, Rows y, cudaStream_t stream) {
  const int64_t half = dim / 2, pairs = rows * heads * half;
  if (pairs == 0) return;
  constexpr unsigned kThreads = 256;
  withType(x.dtype, [&](auto type) {
    using T = decltype(type);
    launch(ropeKernel<T>, dim3(static_cast<unsigned>((pairs + kThreads - 1) / kThreads)), kThreads, stream,
           static_cast<const T*>(x.data), x.stride, headStride, cos, sin, inverse ? -1.f : 1.f, pairs, heads, half,
           static_cast<T*>(y.data));
  });
}

}  // namespace slimtune::cuda
