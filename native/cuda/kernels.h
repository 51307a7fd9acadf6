// The CUDA kernels by themselves: pointers, sizes and a stream, and nothing of LibTorch, so that nvcc compiles no header
// of its. Rows of a matrix lie `stride` elements apart; the elements of a row lie together.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace slimtune::cuda {

enum class Dtype { f32, bf16, f16 };

/// Rows of `width` elements.
struct Rows {
  void* data;
  Dtype dtype;
  int64_t stride;
};

/// y = s / rms(s) · weight where s = x, or x + residual, which then goes into `sum`; residual and sum may be null.
/// inverseRms [rows] is kept for the backward pass. residual and sum are float32 without gaps.
void rmsNorm(Rows x, const float* residual, Rows weight, float eps, int64_t rows, int64_t width, Rows y, float* sum,
             float* inverseRms, cudaStream_t stream);

/// dx [rows, width] without gaps from dy; dSum (null: none) came to x by another way and is added.
void rmsNormBackward(Rows dy, Rows x, Rows weight, const float* inverseRms, const float* dSum, int64_t rows,
                     int64_t width, Rows dx, cudaStream_t stream);

/// The rows that one block of rmsNormBackwardWeight adds up: partial sums [⌈rows / this⌉, width] are left to add.
constexpr int64_t kWeightRows = 64;
void rmsNormBackwardWeight(Rows dy, Rows x, const float* inverseRms, int64_t rows, int64_t width, float* partial,
                           cudaStream_t stream);

/// Turns the pairs (x[i], x[i + dim/2]) by the angles of cos and sin, [rows, dim/2]; or back, with `inverse`.
/// x is [rows, heads, dim] with its heads headStride apart; y has no gaps.
void rope(Rows x, int64_t headStride, const float* cos, const float* sin, int64_t tableStride, bool inverse,
          int64_t rows, int64_t heads, int64_t dim, Rows y, cudaStream_t stream);

enum class Activation { silu, geluTanh };

/// y = act(gate) · up
void gated(Rows gate, Rows up, Activation activation, int64_t rows, int64_t width, Rows y, cudaStream_t stream);
void gatedBackward(Rows dy, Rows gate, Rows up, Activation activation, int64_t rows, int64_t width, Rows dGate, Rows dUp,
                   cudaStream_t stream);

/// loss[row] = (1 - smoothing) · -log softmax(logits)[target] + smoothing · mean of -log softmax(logits). With
/// `gradient`, the logits become their gradients times `scale`. A target outside of the classes gives NaN.
void crossEntropy(Rows logits, const int64_t* targets, float smoothing, float scale, bool gradient, int64_t rows,
                  int64_t classes, float* loss, cudaStream_t stream);

}  // namespace slimtune::cuda
