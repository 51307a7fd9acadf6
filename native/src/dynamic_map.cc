#include "dynamic_map.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "vectorised.h"

namespace slimtune {
namespace {

constexpr int kExponents = 7;

/// Middles of the steps of [0.1, 1], in float32 as torch.linspace gives their borders.
std::vector<float> fractions(int steps) {
  const float step = (1.f - 0.1f) / static_cast<float>(steps);
  std::vector<float> borders;
  for (int i = 0; i <= steps; i++) {
    borders.push_back(i < (steps + 1) / 2 ? 0.1f + step * static_cast<float>(i) : 1.f - step * static_cast<float>(steps - i));
  }
  std::vector<float> middles;
  for (int i = 0; i < steps; i++) middles.push_back((borders[i] + borders[i + 1]) / 2.f);
  return middles;
}

}  // namespace

const DynamicMap& DynamicMap::withSign() {
  static const DynamicMap map(true);
  return map;
}
const DynamicMap& DynamicMap::withoutSign() {
  static const DynamicMap map(false);
  return map;
}

DynamicMap::DynamicMap(bool sign) : sign_(sign), lowest_(1 << 16) {
  std::vector<float> values{0.f, 1.f};
  for (int exponent = 0; exponent < kExponents; exponent++) {
    const auto power = static_cast<float>(std::pow(10., exponent - (kExponents - 1)));
    for (const float fraction : fractions(1 << (sign ? exponent : exponent + 1))) {
      values.push_back(power * fraction);
      if (sign) values.push_back(-(power * fraction));
    }
  }
  std::sort(values.begin(), values.end());
  std::copy(values.begin(), values.end(), values_.begin());
  for (size_t i = 0; i + 1 < values_.size(); i++) middles_[i] = (values_[i] + values_[i + 1]) / 2.f;
  middles_.back() = std::numeric_limits<float>::infinity();
  for (uint32_t bits = 0; bits < lowest_.size(); bits++) {
    const bool negative = (bits & 0x8000) != 0;
    const auto code = [&](uint32_t rest) {
      const float x = std::bit_cast<float>(bits << 16 | rest);
      if (std::isnan(x)) return uint8_t{0};
      return static_cast<uint8_t>(std::lower_bound(middles_.begin(), middles_.end(), x) - middles_.begin());
    };
    lowest_[bits] = code(negative ? 0xffff : 0);
    if (code(negative ? 0 : 0xffff) > lowest_[bits] + 1) throw std::logic_error("one comparison does not decide");
  }
}

void DynamicMap::decode(const uint8_t* codes, float scale, float* values, int64_t count) const {
  for (int64_t i = 0; i < count; i++) values[i] = values_[codes[i]] * scale;
}

namespace {

SLIMTUNE_VECTORISED float largest(const float* values, int64_t count) {
  float result = 0.f;
#pragma omp simd reduction(max : result)
  for (int64_t i = 0; i < count; i++) result = std::max(result, std::abs(values[i]));
  return result;
}

}  // namespace

float DynamicMap::encode(const float* values, uint8_t* codes, int64_t count) const {
  const float scale = largest(values, count);
  const float inverse = 1.f / std::max(scale, 1e-38f);
  const int zero = nearest(0.f);
  for (int64_t i = 0; i < count; i++) {
    const int code = nearest(values[i] * inverse);
    codes[i] = static_cast<uint8_t>(code - (sign_ && code == zero && values[i] < 0.f ? 1 : 0));
  }
  return scale;
}

}  // namespace slimtune
