// Update rules that take each element by itself, over a run of elements. Settings that an update computes once (learning
// rate, corrections of bias) come from the caller; `scale` is the factor of gradient clipping.
#pragma once

#include <cstdint>

namespace slimtune {

constexpr int kMostStates = 3;

/// AdamW (https://arxiv.org/abs/1711.05101): weights decay before the update, as in torch.optim.AdamW. (bitsandbytes'
/// CUDA kernels decay after it, a difference of lr²·λ·update; its CPU path decays before.)
struct AdamWRule {
  float scale, lr, decay;  // decay: 1 - lr·λ
  float beta1, beta2, eps;
  float correction1, correction2;  // 1 - β1ᵗ, √(1 - β2ᵗ)
  int states() const { return 2; }  // m, v
  static constexpr bool hasSign(int state) { return state == 0; }
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

/// Lion (https://arxiv.org/abs/2302.06675).
struct LionRule {
  float scale, lr, decay;
  float beta1, beta2;
  int states() const { return 1; }  // m
  static constexpr bool hasSign(int) { return true; }
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

/// AdEMAMix (https://arxiv.org/abs/2409.03137), with α and β3 as they are at this update.
struct AdEMAMixRule {
  float scale, lr, decay;
  float beta1, beta2, beta3, alpha, eps;
  float correction1, correction2;
  int states() const { return 3; }  // fast m, slow m, v
  static constexpr bool hasSign(int state) { return state < 2; }
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

/// torch.optim.SGD: decay is part of the gradient.
struct SGDRule {
  float scale, lr, weightDecay;
  float momentum, dampening;
  bool nesterov;
  int states() const { return momentum == 0.f ? 0 : 1; }  // momentum buffer
  static constexpr bool hasSign(int) { return true; }
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

/// torch.optim.RMSprop: decay is part of the gradient.
struct RMSpropRule {
  float scale, lr, weightDecay;
  float alpha, eps, momentum;
  bool centered;
  int states() const { return 1 + (centered ? 1 : 0) + (momentum == 0.f ? 0 : 1); }  // v, mean gradient, momentum buffer
  static constexpr bool hasSign(int) { return true; }  // v too: bitsandbytes quantizes a lone state with the signed map
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

/// torch.optim.Adagrad: decay is part of the gradient.
struct AdagradRule {
  float scale, lr, weightDecay;
  float eps;
  int states() const { return 1; }  // sum of squares
  static constexpr bool hasSign(int) { return true; }
  void update(float* p, const float* gradient, float* const* states, int64_t count) const;
};

}  // namespace slimtune
