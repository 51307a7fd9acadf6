// Quantizes weights to 4 or 8 bits with bitsandbytes' codes. Compiled without fused multiply-add: codes and magnitudes
// are bitsandbytes' bit for bit.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "quantized_weight.h"
#include "vectorised.h"

namespace slimtune {
namespace {

// The 16 values by code. NormalFloat: quantiles of a normal distribution (https://arxiv.org/abs/2305.14314, appendix E).
constexpr std::array<float, 16> kNormalFloat = {
    -1.f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.f,
};
/// A sign, two bits of exponent and one of fraction, over the largest value, 12.
constexpr std::array<float, 8> kFloat4 = {0.f, 0.0625f / 12, 8.f / 12, 12.f / 12, 4.f / 12, 6.f / 12, 2.f / 12, 3.f / 12};

/// Values that a code can stand for, and how the nearest is found.
struct Codebook {
  explicit Codebook(std::vector<float> byCode) : values(std::move(byCode)), order(values.size()) {
    for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<uint8_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](uint8_t a, uint8_t b) { return values[a] < values[b]; });
    for (size_t i = 0; i + 1 < order.size(); i++) middles.push_back((values[order[i]] + values[order[i + 1]]) / 2.f);
  }
  at::Tensor tensor() const { return at::tensor(values); }

  std::vector<float> values;   // by code
  std::vector<uint8_t> order;  // codes by value
  std::vector<float> middles;  // between a value and the next
};

const Codebook& codebook4(bool normalFloat) {
  static const Codebook nf4({kNormalFloat.begin(), kNormalFloat.end()});
  static const Codebook fp4([] {
    std::vector<float> values(kFloat4.begin(), kFloat4.end());
    for (const float value : kFloat4) values.push_back(0.f - value);  // no negative zero
    return values;
  }());
  return normalFloat ? nf4 : fp4;
}

/// The dynamic data type (https://arxiv.org/abs/1511.04561): powers of ten, each cut into twice as many steps as the one
/// below it.
const Codebook& dynamicCodebook() {
  static const Codebook book([] {
    std::vector<float> values{0.f, 1.f};
    for (int exponent = -6; exponent <= 0; exponent++) {
      const int steps = 1 << (exponent + 6);
      const auto power = static_cast<float>(std::pow(10., exponent));
      const float step = (1.f - 0.1f) / static_cast<float>(steps);
      // as torch.linspace(0.1, 1) has them where there is AVX2: from the nearer end, with fused multiply-add
      const auto border = [&](int i) {
        return i < (steps + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                   : std::fma(-step, static_cast<float>(steps - i), 1.f);
      };
      for (int i = 0; i < steps; i++) {
        const float value = power * ((border(i) + border(i + 1)) / 2.f);
        values.push_back(value);
        values.push_back(-value);
      }
    }
    std::sort(values.begin(), values.end());
    return values;
  }());
  return book;
}

/// The largest magnitude; a NaN counts as larger than all numbers.
SLIMTUNE_VECTORISED float largest(const float* values, int64_t count) {
  uint32_t bits = 0;
#pragma omp simd reduction(max : bits)
  for (int64_t i = 0; i < count; i++) bits = std::max(bits, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  return std::bit_cast<float>(bits);
}

/// Divides a block by its largest magnitude, which it returns; a block that is not whole is divided, the others are
/// multiplied by the inverse.
float normalise(float* values, int64_t count, bool whole) {
  float magnitude = largest(values, count);
  const float divisor = std::max(magnitude, 1e-38f);
  if (!whole) magnitude = divisor;
  const float inverse = 1.f / divisor;
  for (int64_t i = 0; i < count; i++) {
    values[i] = std::clamp(whole ? values[i] * inverse : values[i] / divisor, -1.f, 1.f);
  }
  return magnitude;
}

/// Codes of a block of numbers between -1 and 1 in 4 bits, two in a byte.
SLIMTUNE_VECTORISED void encode4(const float* values, const float* middles, const uint8_t* order, uint8_t* codes,
                                 int64_t count) {
  int32_t level[kWeightBlock] = {};  // how many middles lie below
  for (int64_t k = 0; k < 15; k++) {
#pragma omp simd
    for (int64_t i = 0; i < kWeightBlock; i++) level[i] += values[i] > middles[k] ? 1 : 0;
  }
  for (int64_t i = 0; i < count / 2; i++) {
    codes[i] = static_cast<uint8_t>(order[level[2 * i]] << 4 | order[level[2 * i + 1]]);
  }
}

void checkFinite(const at::Tensor& magnitudes) {
  TORCH_CHECK(at::isfinite(magnitudes).all().item<bool>(), "a weight that is not finite cannot be quantized");
}

void checkDense(const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() == 2 && weight.layout() == at::kStrided && weight.is_cpu(),
              "expected a dense weight [out, in] on the CPU, got ", weight.sizes());
  TORCH_CHECK(weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kHalf ||
                  weight.scalar_type() == at::kBFloat16,
              "a weight of dtype ", weight.scalar_type(), " cannot be quantized; float32, float16 and bfloat16 can");
}

/// Codes uint8 [n/2] and magnitudes float32 [⌈n/64⌉] of n numbers.
template <typename T>
void quantizeBlocks4(const T* values, int64_t n, const Codebook& book, uint8_t* codes, float* magnitudes) {
  at::parallel_for(0, at::divup(n, kWeightBlock), 512, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; index++) {
      const int64_t start = index * kWeightBlock, count = std::min(kWeightBlock, n - start);
      float block[kWeightBlock] = {};
      for (int64_t i = 0; i < count; i++) block[i] = static_cast<float>(values[start + i]);
      magnitudes[index] = normalise(block, count, count == kWeightBlock);
      encode4(block, book.middles.data(), book.order.data(), codes + start / 2, count);
    }
  });
}

/// Codes uint8 and the largest magnitude of each 256 of them, of a few numbers in float32.
std::pair<at::Tensor, at::Tensor> quantizeMagnitudes(const at::Tensor& values, const Codebook& book) {
  const int64_t n = values.numel();
  at::Tensor rest = values.clone(), codes = at::empty({n}, at::kByte);
  at::Tensor magnitudes = at::empty({at::divup(n, kMagnitudeBlock)}, at::kFloat);
  auto* data = rest.mutable_data_ptr<float>();
  auto* codeData = codes.mutable_data_ptr<uint8_t>();
  for (int64_t start = 0; start < n; start += kMagnitudeBlock) {
    const int64_t count = std::min(kMagnitudeBlock, n - start);
    magnitudes.mutable_data_ptr<float>()[start / kMagnitudeBlock] =
        normalise(data + start, count, count == kMagnitudeBlock);
    for (int64_t i = start; i < start + count; i++) {
      const auto nearest = std::lower_bound(book.middles.begin(), book.middles.end(), data[i]);
      codeData[i] = static_cast<uint8_t>(nearest - book.middles.begin());
    }
  }
  return {codes, magnitudes};
}

/// The tensors of a weight stored in 4 bits: quantized_weight.h has their meaning.
std::vector<at::Tensor> quantize4bit(const at::Tensor& weight, c10::string_view type, bool doubleQuantization) {
  checkDense(weight);
  TORCH_CHECK(type == "nf4" || type == "fp4", "4-bit types are nf4 and fp4, got ", type);
  TORCH_CHECK(weight.size(1) % 2 == 0, "a weight with an odd number of inputs, ", weight.size(1),
              ", cannot be quantized to 4 bits");
  const at::Tensor dense = weight.contiguous();
  const Codebook& book = codebook4(type == "nf4");
  at::Tensor codes = at::empty({weight.size(0), weight.size(1) / 2}, at::kByte);
  at::Tensor magnitudes = at::empty({at::divup(weight.numel(), kWeightBlock)}, at::kFloat);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, weight.scalar_type(), "quantize_4bit", [&] {
    quantizeBlocks4(dense.const_data_ptr<scalar_t>(), weight.numel(), book, codes.mutable_data_ptr<uint8_t>(),
                    magnitudes.mutable_data_ptr<float>());
  });
  checkFinite(magnitudes);
  if (!doubleQuantization) return {codes, magnitudes, book.tensor()};
  const at::Tensor offset = magnitudes.mean().reshape({1});
  const Codebook& dynamic = dynamicCodebook();
  const auto [nestedCodes, nestedMagnitudes] = quantizeMagnitudes(magnitudes - offset, dynamic);
  return {codes, nestedCodes, book.tensor(), nestedMagnitudes, dynamic.tensor(), offset};
}

template <typename T>
void quantizeRows8(const T* values, int64_t rows, int64_t width, int8_t* codes, float* magnitudes) {
  at::parallel_for(0, rows, at::divup(1 << 15, std::max<int64_t>(width, 1)), [&](int64_t begin, int64_t end) {
    std::vector<float> numbers(width);
    for (int64_t row = begin; row < end; row++) {
      // in half precision, as bitsandbytes takes them
      for (int64_t i = 0; i < width; i++) numbers[i] = static_cast<at::Half>(static_cast<float>(values[row * width + i]));
      const float magnitude = magnitudes[row] = largest(numbers.data(), width);
      const float scale = magnitude > 0 ? (1.f / magnitude) * 127.f : 0.f;  // in this order
      if (!std::isfinite(magnitude)) continue;  // refused afterwards
      for (int64_t i = 0; i < width; i++) codes[row * width + i] = static_cast<int8_t>(std::nearbyint(numbers[i] * scale));
    }
  });
}

/// The tensors of a weight stored in 8 bits, each row by its largest magnitude: the weights of LLM.int8
/// (https://arxiv.org/abs/2208.07339).
std::vector<at::Tensor> quantize8bit(const at::Tensor& weight) {
  checkDense(weight);
  const at::Tensor dense = weight.contiguous();
  at::Tensor codes = at::empty(weight.sizes(), at::kChar), magnitudes = at::empty({weight.size(0)}, at::kFloat);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, weight.scalar_type(), "quantize_8bit", [&] {
    quantizeRows8(dense.const_data_ptr<scalar_t>(), weight.size(0), weight.size(1), codes.mutable_data_ptr<int8_t>(),
                  magnitudes.mutable_data_ptr<float>());
  });
  checkFinite(magnitudes);
  return {codes, magnitudes};
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("quantize_4bit(Tensor weight, str type, bool double_quantization) -> Tensor[]", quantize4bit);
  library.def("quantize_8bit(Tensor weight) -> Tensor[]", quantize8bit);
}

}  // namespace
}  // namespace slimtune
