#include "optimizer_rules.h"

#include "vectorised.h"

namespace slimtune {
namespace {

SLIMTUNE_INLINE float average(float decay, float before, float now) { return decay * before + (1.f - decay) * now; }

SLIMTUNE_VECTORISED void run(AdamWRule o, float* p, const float* gradient, float* m, float* v, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale;
    m[i] = average(o.beta1, m[i], g);
    v[i] = average(o.beta2, v[i], g * g);
    p[i] = p[i] * o.decay - o.lr / o.correction1 * m[i] / (std::sqrt(v[i]) / o.correction2 + o.eps);
  }
}

SLIMTUNE_VECTORISED void run(LionRule o, float* p, const float* gradient, float* m, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale;
    const float direction = average(o.beta1, m[i], g);
    const float sign = static_cast<float>((direction > 0.f) - (direction < 0.f));
    p[i] = p[i] * o.decay - o.lr * sign;
    m[i] = average(o.beta2, m[i], g);
  }
}

SLIMTUNE_VECTORISED void run(AdEMAMixRule o, float* p, const float* gradient, float* fast, float* slow, float* v,
                             int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale;
    fast[i] = average(o.beta1, fast[i], g);
    slow[i] = average(o.beta3, slow[i], g);
    v[i] = average(o.beta2, v[i], g * g);
    const float mixed = fast[i] / o.correction1 + o.alpha * slow[i];
    p[i] = p[i] * o.decay - o.lr * mixed / (std::sqrt(v[i]) / o.correction2 + o.eps);
  }
}

SLIMTUNE_VECTORISED void run(SGDRule o, float* p, const float* gradient, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) p[i] -= o.lr * (gradient[i] * o.scale + o.weightDecay * p[i]);
}

SLIMTUNE_VECTORISED void run(SGDRule o, float* p, const float* gradient, float* buffer, int64_t count) {
  const float look = o.nesterov ? 1.f : 0.f;  // how much of the gradient is added to the buffer once more
  const float kept = o.nesterov ? o.momentum : 1.f;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale + o.weightDecay * p[i];
    buffer[i] = o.momentum * buffer[i] + (1.f - o.dampening) * g;
    p[i] -= o.lr * (look * g + kept * buffer[i]);
  }
}

SLIMTUNE_VECTORISED void run(RMSpropRule o, float* p, const float* gradient, float* v, float* mean, float* buffer,
                             int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale + o.weightDecay * p[i];
    v[i] = average(o.alpha, v[i], g * g);
    float variance = v[i];
    if (mean != nullptr) {
      mean[i] = average(o.alpha, mean[i], g);
      variance -= mean[i] * mean[i];
    }
    float step = g / (std::sqrt(variance) + o.eps);
    if (buffer != nullptr) step = buffer[i] = o.momentum * buffer[i] + step;
    p[i] -= o.lr * step;
  }
}

SLIMTUNE_VECTORISED void run(AdagradRule o, float* p, const float* gradient, float* sum, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * o.scale + o.weightDecay * p[i];
    sum[i] += g * g;
    p[i] -= o.lr * g / (std::sqrt(sum[i]) + o.eps);
  }
}

}  // namespace

void AdamWRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  run(*this, p, gradient, states[0], states[1], count);
}
void LionRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  run(*this, p, gradient, states[0], count);
}
void AdEMAMixRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  run(*this, p, gradient, states[0], states[1], states[2], count);
}
void SGDRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  if (momentum == 0.f) return run(*this, p, gradient, count);
  run(*this, p, gradient, states[0], count);
}
void RMSpropRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  float* mean = centered ? states[1] : nullptr;
  float* buffer = momentum == 0.f ? nullptr : states[centered ? 2 : 1];
  run(*this, p, gradient, states[0], mean, buffer, count);
}
void AdagradRule::update(float* p, const float* gradient, float* const* states, int64_t count) const {
  run(*this, p, gradient, states[0], count);
}

}  // namespace slimtune
