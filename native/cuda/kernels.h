// The CUDA kernels by themselves: pointers, sizes and a stream, and nothing of LibTorch, so that nvcc compiles no header
// of its. Rows of a matrix lie `stride` elements apart; the elements of a row lie together.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../src/activation.h"
#include "../src/optimizer_rules.h"

namespace slimtune::cuda {

enum class Dtype { f32, bf16, f16 };

/// Rows of `width` elements; none where the data is null.
struct Rows {
  void* data = nullptr;
  Dtype dtype = Dtype::f32;
  int64_t stride = 0;
};

/// Rows normed as native/src/norm.h has it: without a mean x̂ = x / rms(x), else centered; y = x̂ · weight + bias + residual. bias,
/// of weight's dtype, and residual, of y's, may be null. inverse [rows] and mean [rows] are kept for the backward pass. y has no
/// gaps.
void norm(Rows x, Rows weight, Rows bias, float eps, int64_t rows, int64_t width, Rows y, Rows residual, float* inverse,
          float* mean, cudaStream_t stream);

/// dx has no gaps.
void normBackward(Rows dy, Rows x, Rows weight, const float* inverse, const float* mean, int64_t rows, int64_t width, Rows dx,
                  cudaStream_t stream);

/// The rows that one block of normBackwardWeight adds up: partial sums [⌈rows / this⌉, width] are left to add. biasSums may be
/// null.
constexpr int64_t kWeightRows = 64;
void normBackwardWeight(Rows dy, Rows x, const float* inverse, const float* mean, int64_t rows, int64_t width,
                        float* weightSums, float* biasSums, cudaStream_t stream);

/// Turns the pairs (x[i], x[i + half]), or interleaved (x[2i], x[2i + 1]), by the angles of cos and sin, [rows, half]; or back,
/// with `inverse`. x is [rows, heads, dim] with its heads headStride apart; y has no gaps, and x's dtype.
void rope(Rows x, int64_t headStride, const float* cos, const float* sin, bool inverse, bool interleaved, int64_t rows,
          int64_t heads, int64_t dim, int64_t half, Rows y, cudaStream_t stream);

/// y = activation(gate) · up, or without that where up is null; the results have no gaps, and all are of gate's dtype.
void gate(Activation activation, Rows gate, Rows up, int64_t rows, int64_t width, Rows y, cudaStream_t stream);
void gateBackward(Activation activation, Rows dy, Rows gate, Rows up, int64_t rows, int64_t width, Rows dGate, Rows dUp,
                  cudaStream_t stream);

/// Logits of classes first, first + 1, ... become exp(logit - the row's largest so far), the target's 0. Of each row, most
/// and others (Σ of the exponentials but the target's, so far) are updated, targetLogit is set where the target is among
/// these classes, and factor is by what earlier sums of exponentials are to be multiplied. With a cap > 0 the logits are
/// cap·tanh(logit / cap), and each exponential is written times the slope of that.
void expBlock(float* logits, int64_t stride, const int64_t* targets, int64_t first, int64_t rows, int64_t classes, float cap,
              float* most, float* others, float* targetLogit, float* factor, cudaStream_t stream);

/// What an update works on: states in float32, or 8-bit codes with a scale for each kQuantizedBlock of them.
struct UpdatedTensor {
  float* parameter;
  const float* gradient;
  void* states[kMostStates];
  float* scales[kMostStates];
  int64_t count;
};

/// One update of many tensors by a rule of optimizer_rules.h. *nonfinite becomes 1 where a weight or state that it made is
/// not finite.
template <class Rule>
void optimizerStep(const Rule& rule, const UpdatedTensor* tensors, int64_t count, float* nonfinite, cudaStream_t stream);

/// The values of the 256 codes, ascending.
struct CodeValues {
  float withoutSign[256], withSign[256];
};

/// The same with 8-bit states, as updateQuantized (native/src/quantized_update.h) does it.
template <class Rule>
void optimizerStep8bit(const Rule& rule, const CodeValues& values, const UpdatedTensor* tensors, int64_t count,
                       float* nonfinite, cudaStream_t stream);

/// A weight [out, width] in 4 or 8 bits: native/src/quantized_weight.h has the meaning of its parts.
struct QuantizedWeight {
  const void* codes;
  const void* magnitudes;          // float, or with double quantization uint8
  const float* values;             // 4 bits only
  const float* nestedMagnitudes;   // with double quantization, else null
  const float* nestedValues;
  const float* offset;
};

/// Rows begin to begin + rows, [rows, width] without gaps, with the very bits that the CPU gives.
void dequantize4bit(const QuantizedWeight& weight, int64_t begin, int64_t rows, int64_t width, void* out, Dtype dtype,
                    cudaStream_t stream);
void dequantize8bit(const QuantizedWeight& weight, int64_t begin, int64_t rows, int64_t width, void* out, Dtype dtype,
                    cudaStream_t stream);

}  // namespace slimtune::cuda
