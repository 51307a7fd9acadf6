// The 8-bit dynamic data type of block-wise quantized states (https://arxiv.org/abs/2110.02861, section 1.3), with the
// values of bitsandbytes' create_dynamic_map: powers of ten, each cut into twice as many steps as the one below it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace slimtune {

class DynamicMap {
 public:
  static const DynamicMap& withSign();     // -0.993 to 1
  static const DynamicMap& withoutSign();  // 0 to 1

  const std::array<float, 256>& values() const { return values_; }  // by code, ascending

  /// values[i] = the value of codes[i] times the block's scale.
  void decode(const uint8_t* codes, float scale, float* values, int64_t count) const;

  /// Scales a block by its largest magnitude, which it returns, and takes the nearest code of each element (the lower of
  /// two as near). With a sign, a negative value never becomes zero: it takes the code below instead.
  float encode(const float* values, uint8_t* codes, int64_t count) const;

 private:
  explicit DynamicMap(bool sign);
  /// One comparison decides between the two codes that a float's upper half leaves.
  uint8_t nearest(float x) const {
    const uint8_t code = lowest_[std::bit_cast<uint32_t>(x) >> 16];
    return static_cast<uint8_t>(code + (x > middles_[code] ? 1 : 0));
  }

  bool sign_;
  std::array<float, 256> values_;
  std::array<float, 256> middles_;   // between a value and the next; infinity after the last
  std::vector<uint8_t> lowest_;      // [65536] of the floats that begin with these 16 bits, the code of the lowest
};

}  // namespace slimtune
