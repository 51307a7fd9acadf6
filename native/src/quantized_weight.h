// Weights [out, in] as they are stored: dense, or in 4 or 8 bits with bitsandbytes' values and layout. The tensors of a
// stored weight, by their number:
//   1  dense, of any floating dtype
//   2  8 bits: codes int8 [out, in], the largest magnitude of each row float32 [out]; value = code · magnitude / 127
//   3  4 bits: codes uint8 [out, in/2], two weights in a byte, the first in the high half; the largest magnitude of each
//      block of 64 weights, float32 [blocks]; the 16 values, float32 [16]; value = values[code] · magnitude
//   6  4 bits with double quantization: the magnitudes are codes uint8 [blocks] themselves; then the values as above,
//      the largest magnitude of each 256 of them float32 [⌈blocks/256⌉], their values float32 [256], offset float32 [1];
//      a block's magnitude = values[code] · magnitude of the 256 + offset
#pragma once

#include <ATen/ATen.h>

namespace slimtune {

constexpr int64_t kWeightBlock = 64;      // weights that share a magnitude
constexpr int64_t kMagnitudeBlock = 256;  // magnitudes that share one, under double quantization

inline int64_t weightRows(at::TensorList weight) { return weight[0].size(0); }
inline int64_t weightColumns(at::TensorList weight) { return weight[0].size(1) * (weight.size() >= 3 ? 2 : 1); }

/// Refuses tensors that are none of these.
void checkWeight(at::TensorList weight);

/// Rows begin to begin + out.size(0) of a quantized weight, in the dtype of `out` [rows, in], which is contiguous.
void dequantizeRows(at::TensorList weight, int64_t begin, const at::Tensor& out);

}  // namespace slimtune
