// Helpers of kernels that compilers vectorise: plain loops, compiled for several instruction sets.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

// A function so marked is compiled for three generations of x86-64 and chosen when the library is loaded. What it calls
// must be SLIMTUNE_INLINE, so that it is compiled with it. On Arm, NEON is the baseline.
#ifdef SLIMTUNE_VECTORISED  // a test chooses
#elif defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)
#define SLIMTUNE_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SLIMTUNE_VECTORISED
#endif
#define SLIMTUNE_INLINE inline __attribute__((always_inline))

namespace slimtune {

/// eˣ within one unit in the last place, for x up to 88; 0 below -86.5. std::exp does not vectorise.
/// x = n·ln 2 + r, eʳ by a polynomial (Cephes' coefficients), n added to the exponent.
SLIMTUNE_INLINE float vectorExp(float x) {
  const float shifted = x * 1.44269504f + 12582912.f;  // + 1.5·2²³: the sum's last bits are n
  const float n = shifted - 12582912.f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first product exact
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.f;
  const int32_t bits = std::bit_cast<int32_t>(y) + (std::bit_cast<int32_t>(shifted) << 23);
  const int32_t mask = -static_cast<int32_t>(!(x < -86.5f));  // all ones for NaN too; a branch would not vectorise
  return std::bit_cast<float>(bits & mask);
}
SLIMTUNE_INLINE double vectorExp(double x) { return std::exp(x); }

/// tanh x within 4 units in the last place. Near 0, where 1 - e⁻²ˣ would lose digits, an odd polynomial (Cephes'
/// coefficients).
SLIMTUNE_INLINE float vectorTanh(float x) {
  const float size = std::abs(x), square = x * x, e = vectorExp(-2 * size);
  float y = -5.70498872745e-3f;
  y = y * square + 2.06390887954e-2f;
  y = y * square - 5.37397155531e-2f;
  y = y * square + 1.33314422036e-1f;
  y = y * square - 3.33332819422e-1f;
  const int32_t near = std::bit_cast<int32_t>(y * square * x + x);
  const int32_t far = std::bit_cast<int32_t>(std::copysign((1 - e) / (1 + e), x));
  const int32_t mask = -static_cast<int32_t>(size < 0.625f);
  return std::bit_cast<float>((near & mask) | (far & ~mask));
}
SLIMTUNE_INLINE double vectorTanh(double x) { return std::tanh(x); }

/// |x| as an integer in the order of floats, in which infinity and then NaN come last: the largest of many tells whether
/// all are finite, at the cost of a mask and a maximum.
using Magnitude = int32_t;
SLIMTUNE_INLINE Magnitude magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }
SLIMTUNE_INLINE bool isFinite(Magnitude largest) { return largest < 0x7f800000; }

}  // namespace slimtune
