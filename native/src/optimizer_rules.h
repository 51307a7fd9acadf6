// Update rules that take each element by itself. A rule's formula is written once, in `element`: over floats it is what
// the loops of the CPU and the kernels of a GPU do, over tensors the composition for other devices. Settings that an
// update computes once (learning rate, corrections of bias) are members; `scale` is the factor of gradient clipping.
#pragma once

#include <math.h>

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define SLIMTUNE_ELEMENT __host__ __device__ inline
#else
#define SLIMTUNE_ELEMENT inline __attribute__((always_inline))
#endif

namespace slimtune {

constexpr int kMostStates = 3;
constexpr int64_t kQuantizedBlock = 256;  // elements of an 8-bit state that share one scale

template <typename T>
SLIMTUNE_ELEMENT T average(float decay, const T& before, const T& now) {
  return decay * before + (1.f - decay) * now;
}
/// a·b + c, rounded once.
SLIMTUNE_ELEMENT float fused(float a, float b, float c) { return fmaf(a, b, c); }
SLIMTUNE_ELEMENT float sign(float x) { return static_cast<float>((x > 0.f) - (x < 0.f)); }

/// AdamW (https://arxiv.org/abs/1711.05101) with the very bits of LibTorch's fused op on a CPU with FMA: that multiplies
/// and adds in this order, and in another one the last elements of a tensor, too few for its eight lanes.
template <bool kLast>
struct TorchAdamWRule {
  float divisor, step, decay;    // of gradients; -lr / (1 - β1ᵗ); 1 - lr·λ
  float weight, beta2, weight2;  // 1 - β1, β2, 1 - β2
  float correction2, eps;        // √(1 - β2ᵗ)
  static constexpr int kStates = 2;  // m, v
  static constexpr int64_t kLanes = 8;
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int state) { return state == 0; }
  SLIMTUNE_ELEMENT void element(float& p, const float& gradient, float* state) const {
    using std::sqrt;
    const float g = gradient / divisor;
    p = p * decay;
    const bool nearer = fabsf(weight) < 0.5f;  // m to its old value than to g
    const float rest = kLast ? -(1.f - weight) : weight - 1.f;  // the same but for a zero's sign
    state[0] = fused(nearer ? weight : rest, g - state[0], nearer ? state[0] : g);
    state[1] = kLast ? fused(state[1], beta2, weight2 * g * g) : fused(weight2 * g, g, state[1] * beta2);
    p = p + step * state[0] / (sqrt(state[1]) / correction2 + eps);
  }
  TorchAdamWRule<true> ofLast() const { return {divisor, step, decay, weight, beta2, weight2, correction2, eps}; }
};

/// AdamW as bitsandbytes computes it, whose 8-bit states it keeps. Weights decay before the update, as on bitsandbytes' CPU
/// path; its CUDA kernels decay after it, a difference of lr²·λ·update.
struct AdamWRule {
  float scale, lr, decay;  // decay: 1 - lr·λ
  float beta1, beta2, eps;
  float correction1, correction2;  // 1 - β1ᵗ, √(1 - β2ᵗ)
  static constexpr int kStates = 2;  // m, v
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int state) { return state == 0; }
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    using std::sqrt;
    const T g = gradient * scale;
    state[0] = average(beta1, state[0], g);
    state[1] = average<T>(beta2, state[1], g * g);
    p = p * decay - lr / correction1 * state[0] / (sqrt(state[1]) / correction2 + eps);
  }
};

/// Lion (https://arxiv.org/abs/2302.06675).
struct LionRule {
  float scale, lr, decay;
  float beta1, beta2;
  static constexpr int kStates = 1;  // m
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int) { return true; }
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    const T g = gradient * scale;
    p = p * decay - lr * sign(average(beta1, state[0], g));
    state[0] = average(beta2, state[0], g);
  }
};

/// AdEMAMix (https://arxiv.org/abs/2409.03137), with α and β3 as they are at this update.
struct AdEMAMixRule {
  float scale, lr, decay;
  float beta1, beta2, beta3, alpha, eps;
  float correction1, correction2;
  static constexpr int kStates = 3;  // fast m, slow m, v
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int state) { return state < 2; }
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    using std::sqrt;
    const T g = gradient * scale;
    state[0] = average(beta1, state[0], g);
    state[1] = average(beta3, state[1], g);
    state[2] = average<T>(beta2, state[2], g * g);
    const T mixed = state[0] / correction1 + alpha * state[1];
    p = p * decay - lr * mixed / (sqrt(state[2]) / correction2 + eps);
  }
};

/// torch.optim.SGD: decay is part of the gradient.
template <bool kMomentum>
struct SGDRule {
  float scale, lr, weightDecay;
  float momentum, dampening;
  bool nesterov;
  static constexpr int kStates = kMomentum ? 1 : 0;  // momentum buffer
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int) { return true; }
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    const T g = gradient * scale + weightDecay * p;
    if constexpr (kMomentum) {
      const float look = nesterov ? 1.f : 0.f;  // how much of the gradient is added to the buffer once more
      const float kept = nesterov ? momentum : 1.f;
      state[0] = momentum * state[0] + (1.f - dampening) * g;
      p = p - lr * (look * g + kept * state[0]);
    } else {
      p = p - lr * g;
    }
  }
};

/// torch.optim.RMSprop: decay is part of the gradient.
template <bool kCentered, bool kMomentum>
struct RMSpropRule {
  float scale, lr, weightDecay;
  float alpha, eps, momentum;
  static constexpr int kStates = 1 + (kCentered ? 1 : 0) + (kMomentum ? 1 : 0);  // v, mean gradient, momentum buffer
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int) { return true; }  // v too: bitsandbytes quantizes a lone state so
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    using std::sqrt;
    const T g = gradient * scale + weightDecay * p;
    state[0] = average<T>(alpha, state[0], g * g);
    T variance = state[0];
    if constexpr (kCentered) {
      state[1] = average(alpha, state[1], g);
      variance = variance - state[1] * state[1];
    }
    T step = g / (sqrt(variance) + eps);
    if constexpr (kMomentum) step = state[kStates - 1] = momentum * state[kStates - 1] + step;
    p = p - lr * step;
  }
};

/// torch.optim.Adagrad: decay is part of the gradient.
struct AdagradRule {
  float scale, lr, weightDecay;
  float eps;
  static constexpr int kStates = 1;  // sum of squares
  SLIMTUNE_ELEMENT static constexpr bool hasSign(int) { return true; }
  template <typename T>
  SLIMTUNE_ELEMENT void element(T& p, const T& gradient, T* state) const {
    using std::sqrt;
    const T g = gradient * scale + weightDecay * p;
    state[0] = state[0] + g * g;
    p = p - lr * g / (sqrt(state[0]) + eps);
  }
};

/// Applies a macro to every rule, and to those but the first, which is compiled by itself.
#define SLIMTUNE_EACH_RULE(apply) apply(TorchAdamWRule<false>) SLIMTUNE_EACH_OTHER_RULE(apply)
#define SLIMTUNE_EACH_OTHER_RULE(apply)                                                                        \
  apply(AdamWRule) apply(LionRule) apply(AdEMAMixRule) apply(SGDRule<false>) apply(SGDRule<true>)              \
      apply(RMSpropRule<false, false>) apply(RMSpropRule<false, true>) apply(RMSpropRule<true, false>)         \
          apply(RMSpropRule<true, true>) apply(AdagradRule)

/// A run of elements, on the CPU; but for a tensor's last run it is of a multiple of 8. Returns whether all weights and
/// states that it made are finite.
template <class Rule>
bool update(const Rule& rule, float* p, const float* gradient, float* const* states, int64_t count);

}  // namespace slimtune
