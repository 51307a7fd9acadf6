// The loop of a rule over a run of elements, on the CPU.
#pragma once

#include "optimizer_rules.h"
#include "vectorised.h"

namespace slimtune {

/// One element; without loops over the states, which GCC would not vectorise.
template <class Rule>
SLIMTUNE_INLINE void one(const Rule& rule, float& p, float gradient, float* a, float* b, float* c, int64_t i) {
  constexpr int kStates = Rule::kStates;
  float state[kMostStates] = {kStates > 0 ? a[i] : 0.f, kStates > 1 ? b[i] : 0.f, kStates > 2 ? c[i] : 0.f};
  rule.element(p, gradient, state);
  if constexpr (kStates > 0) a[i] = state[0];
  if constexpr (kStates > 1) b[i] = state[1];
  if constexpr (kStates > 2) c[i] = state[2];
}

template <class Rule>
SLIMTUNE_VECTORISED void run(Rule rule, float* p, const float* gradient, float* a, float* b, float* c, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) one(rule, p[i], gradient[i], a, b, c, i);
}

}  // namespace slimtune
