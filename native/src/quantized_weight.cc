// Compiled without fused multiply-add: dequantized values are bitsandbytes' bit for bit.
#include "quantized_weight.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>
#include <cstring>

#include "vectorised.h"

namespace slimtune {
namespace {

/// The values of a byte's two codes, side by side: one load for two weights.
using Pairs = std::array<std::array<float, 2>, 256>;

/// values[i] = value of code i · scale, for `count` codes from the half byte at `codes` on.
SLIMTUNE_VECTORISED void decode(const uint8_t* codes, const Pairs& pairs, float scale, float* values, int64_t count) {
  for (int64_t i = 0; i < count / 2; i++) std::memcpy(values + 2 * i, pairs[codes[i]].data(), 2 * sizeof(float));
#pragma omp simd
  for (int64_t i = 0; i < count; i++) values[i] *= scale;
}

SLIMTUNE_VECTORISED void decode(const int8_t* codes, float scale, float* values, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) values[i] = static_cast<float>(codes[i]) * scale;
}

/// Where float32 values go: at once into a float32 target, through a buffer into another.
template <typename T, typename Decode>
void decodeInto(T* out, int64_t count, const Decode& decodeTo) {
  if constexpr (std::is_same_v<T, float>) {
    decodeTo(out);
  } else {
    float buffer[kWeightBlock];
    decodeTo(buffer);
    for (int64_t i = 0; i < count; i++) out[i] = static_cast<T>(buffer[i]);
  }
}

template <typename T>
void dequantizeRows4(at::TensorList weight, int64_t begin, T* out, int64_t count) {
  const uint8_t* codes = weight[0].const_data_ptr<uint8_t>();
  const float* values = weight[2].const_data_ptr<float>();
  Pairs pairs;
  for (size_t byte = 0; byte < pairs.size(); byte++) pairs[byte] = {values[byte >> 4], values[byte & 15]};
  const bool nested = weight.size() == 6;
  const float* plain = nested ? nullptr : weight[1].const_data_ptr<float>();
  const uint8_t* nestedCodes = nested ? weight[1].const_data_ptr<uint8_t>() : nullptr;
  const float* nestedMagnitudes = nested ? weight[3].const_data_ptr<float>() : nullptr;
  const float* nestedValues = nested ? weight[4].const_data_ptr<float>() : nullptr;
  const float offset = nested ? *weight[5].const_data_ptr<float>() : 0.f;
  const auto magnitude = [&](int64_t block) {
    if (!nested) return plain[block];
    return nestedValues[nestedCodes[block]] * nestedMagnitudes[block / kMagnitudeBlock] + offset;
  };
  const int64_t first = begin * weightColumns(weight), last = first + count;  // rows and blocks begin at even elements
  at::parallel_for(first / kWeightBlock, at::divup(last, kWeightBlock), 512, [&](int64_t from, int64_t to) {
    for (int64_t block = from; block < to; block++) {
      const int64_t start = std::max(first, block * kWeightBlock), end = std::min(last, (block + 1) * kWeightBlock);
      decodeInto(out + (start - first), end - start, [&](float* target) {
        decode(codes + start / 2, pairs, magnitude(block), target, end - start);
      });
    }
  });
}

template <typename T>
void dequantizeRows8(at::TensorList weight, int64_t begin, T* out, int64_t rows) {
  const int64_t width = weight[0].size(1);
  const int8_t* codes = weight[0].const_data_ptr<int8_t>() + begin * width;
  const float* magnitudes = weight[1].const_data_ptr<float>() + begin;
  at::parallel_for(0, rows, at::divup(1 << 15, width), [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const float scale = magnitudes[row] * static_cast<float>(1. / 127);
      for (int64_t start = 0; start < width; start += kWeightBlock) {
        const int64_t count = std::min(kWeightBlock, width - start), at = row * width + start;
        decodeInto(out + at, count, [&](float* target) { decode(codes + at, scale, target, count); });
      }
    }
  });
}

void dequantizeOnCpu(at::TensorList weight, int64_t begin, const at::Tensor& out) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, out.scalar_type(), "dequantize", [&] {
    auto* data = out.mutable_data_ptr<scalar_t>();
    if (weight.size() == 2) {
      dequantizeRows8(weight, begin, data, out.size(0));
    } else {
      dequantizeRows4(weight, begin, data, out.numel());
    }
  });
}

/// The same of ATen's ops, for other devices.
void composedDequantize(at::TensorList weight, int64_t begin, const at::Tensor& out) {
  const at::Tensor codes = weight[0].narrow(0, begin, out.size(0));
  if (weight.size() == 2) {
    const at::Tensor scales = weight[1].narrow(0, begin, out.size(0)) * static_cast<float>(1. / 127);
    out.copy_(codes.to(at::kFloat) * scales.unsqueeze(1));
    return;
  }
  const int64_t first = begin * out.size(1), last = first + out.numel();
  const int64_t firstBlock = first / kWeightBlock, blocks = at::divup(last, kWeightBlock) - firstBlock;
  at::Tensor magnitudes = weight[1].narrow(0, firstBlock, blocks);
  if (weight.size() == 6) {
    const at::Tensor groups = at::arange(firstBlock, firstBlock + blocks, codes.options().dtype(at::kLong))
                                  .div(kMagnitudeBlock, "floor");
    magnitudes = weight[4].index_select(0, magnitudes.to(at::kInt)) * weight[3].index_select(0, groups) + weight[5];
  }
  const at::Tensor halves = at::stack({codes.bitwise_right_shift(4), codes.bitwise_and(15)}, 2);  // [rows, in/2, 2]
  const at::Tensor each = magnitudes.unsqueeze(1).expand({-1, kWeightBlock}).reshape(-1);
  const at::Tensor scales = each.narrow(0, first - firstBlock * kWeightBlock, out.numel());
  out.copy_((weight[2].index_select(0, halves.view(-1).to(at::kInt)) * scales).view(out.sizes()));
}

/// slimtune::dequantize: a stored weight as numbers, [out, in].
at::Tensor dequantize(at::TensorList weight, at::ScalarType dtype) {
  TORCH_CHECK(at::isFloatingType(dtype), "numbers of a weight cannot be ", dtype);
  checkWeight(weight);
  TORCH_CHECK(weight.size() > 1, "a dense weight is numbers already");
  const at::Tensor out = at::empty({weightRows(weight), weightColumns(weight)}, weight[0].options().dtype(dtype));
  dequantizeRows(weight, 0, out);
  return out;
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("dequantize(Tensor[] weight, ScalarType dtype) -> Tensor");
  library.impl("dequantize", c10::DispatchKey::CompositeExplicitAutograd, dequantize);
  library.def("_dequantize_rows(Tensor[] weight, int begin, Tensor(a!) out) -> ()");
}
TORCH_LIBRARY_IMPL(slimtune, CPU, library) { library.impl("_dequantize_rows", dequantizeOnCpu); }
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) { library.impl("_dequantize_rows", composedDequantize); }

}  // namespace

void checkWeight(at::TensorList weight) {
  TORCH_CHECK(weight.size() == 1 || weight.size() == 2 || weight.size() == 3 || weight.size() == 6,
              "a weight is stored in 1, 2, 3 or 6 tensors, got ", weight.size());
  const at::Tensor& first = weight[0];
  TORCH_CHECK(first.dim() == 2 && first.layout() == at::kStrided, "expected a dense weight [out, in], got ",
              first.sizes());
  if (weight.size() == 1) {
    TORCH_CHECK(at::isFloatingType(first.scalar_type()), "a weight must be of a floating dtype, got ",
                first.scalar_type());
    return;
  }
  const auto checkPart = [&](const at::Tensor& part, at::ScalarType dtype, at::IntArrayRef shape, const char* name) {
    TORCH_CHECK(part.scalar_type() == dtype && part.sizes() == shape && part.layout() == at::kStrided &&
                    part.is_contiguous() && part.device() == first.device(),
                "a quantized weight's ", name, " must be ", dtype, " ", shape, ", got ", part.scalar_type(), " ",
                part.sizes(), ", and on its codes' device");
  };
  if (weight.size() == 2) {
    checkPart(first, at::kChar, first.sizes(), "codes");
    checkPart(weight[1], at::kFloat, {first.size(0)}, "magnitudes");
    return;
  }
  checkPart(first, at::kByte, first.sizes(), "codes");
  const int64_t blocks = at::divup(2 * first.numel(), kWeightBlock);
  checkPart(weight[1], weight.size() == 6 ? at::kByte : at::kFloat, {blocks}, "magnitudes");
  checkPart(weight[2], at::kFloat, {16}, "values");
  if (weight.size() == 3) return;
  checkPart(weight[3], at::kFloat, {at::divup(blocks, kMagnitudeBlock)}, "magnitudes of magnitudes");
  checkPart(weight[4], at::kFloat, {256}, "values of magnitudes");
  checkPart(weight[5], at::kFloat, {1}, "offset of magnitudes");
}

void dequantizeRows(at::TensorList weight, int64_t begin, const at::Tensor& out) {
  if (out.numel() == 0) return;
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("slimtune::_dequantize_rows", "")
                             .typed<void(at::TensorList, int64_t, const at::Tensor&)>();
  op.call(weight, begin, out);
}

}  // namespace slimtune
