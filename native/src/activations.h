// Activations with their slopes, as formulas of one number that compilers vectorise.
#pragma once

#include "vectorised.h"

namespace slimtune {

template <typename T>
SLIMTUNE_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + vectorExp(std::min(-x, T(88))));
}

/// The normal distribution at x: its density, and its integral up to there.
template <typename T>
struct Normal {
  T density, below;
};

/// For |x| = √2·z the rest is erfc(z)/2 = e^(-z²)·t·P(t)/2 with t = 1/(1 + 0.45·z): P was fitted for 0 ≤ z ≤ 9.4, within 3e-7
/// of erfc. Taking the rest from 1 on one side only keeps the other side's digits.
SLIMTUNE_INLINE Normal<float> normal(float x) {
  const float e = vectorExp(-0.5f * x * x);
  const float t = 1.f / (1.f + 0.45f * 0.70710678f * std::abs(x));
  float p = 0.0662012758f;
  p = p * t - 0.237378875f;
  p = p * t + 0.203641515f;
  p = p * t + 0.0452842331f;
  p = p * t + 0.185897372f;
  p = p * t + 0.228943181f;
  p = p * t + 0.253493048f;
  p = p * t + 0.253918543f;
  const float rest = 0.5f * e * t * p;
  return {0.398942280f * e, x < 0 ? rest : 1.f - rest};
}
SLIMTUNE_INLINE Normal<double> normal(double x) {
  return {0.39894228040143268 * std::exp(-0.5 * x * x), 0.5 * std::erfc(-0.70710678118654752 * x)};
}

struct Silu {
  template <typename T>
  static SLIMTUNE_INLINE T value(T x) {
    return x * sigmoid(x);
  }
  template <typename T>
  static SLIMTUNE_INLINE T withSlope(T x, T& slope) {
    const T s = sigmoid(x);
    const T value = x * s;
    slope = s + value * (T(1) - s);
    return value;
  }
};

struct Gelu {
  template <typename T>
  static SLIMTUNE_INLINE T value(T x) {
    return x * normal(x).below;
  }
  template <typename T>
  static SLIMTUNE_INLINE T withSlope(T x, T& slope) {
    const Normal<T> at = normal(x);
    slope = at.below + x * at.density;
    return x * at.below;
  }
};

/// x·(1 + tanh u)/2 is x·sigmoid(2u), which keeps the digits of small results.
struct GeluTanh {
  template <typename T>
  static SLIMTUNE_INLINE T value(T x) {
    return x * sigmoid(kTwice<T> * (x + kCubic<T> * x * x * x));
  }
  template <typename T>
  static SLIMTUNE_INLINE T withSlope(T x, T& slope) {
    const T e = vectorExp(std::min(-kTwice<T> * (x + kCubic<T> * x * x * x), T(88)));
    const T s = T(1) / (T(1) + e), value = x * s;
    slope = s + value * (e * s) * (kTwice<T> * (T(1) + T(3) * kCubic<T> * x * x));
    return value;
  }
  template <typename T>
  static constexpr T kTwice = T(1.5957691216057308);  // 2·√(2/π)
  template <typename T>
  static constexpr T kCubic = T(0.044715);
};

/// NaN stays NaN.
struct Relu {
  template <typename T>
  static SLIMTUNE_INLINE T value(T x) {
    return x <= T(0) ? T(0) : x;
  }
  template <typename T>
  static SLIMTUNE_INLINE T withSlope(T x, T& slope) {
    slope = x <= T(0) ? T(0) : T(1);
    return value(x);
  }
};

/// relu(x)²
struct SquaredRelu {
  template <typename T>
  static SLIMTUNE_INLINE T value(T x) {
    return Relu::value(x) * Relu::value(x);
  }
  template <typename T>
  static SLIMTUNE_INLINE T withSlope(T x, T& slope) {
    slope = T(2) * Relu::value(x);
    return value(x);
  }
};

}  // namespace slimtune
