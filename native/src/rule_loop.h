// The loop of a rule over a run of elements, on the CPU.
#pragma once

#include "optimizer_rules.h"
#include "vectorised.h"

namespace slimtune {

/// One element; without loops over the states, which GCC would not vectorise. Returns the largest of what it made.
template <class Rule>
SLIMTUNE_INLINE Magnitude one(const Rule& rule, float& p, float gradient, float* a, float* b, float* c, int64_t i) {
  constexpr int kStates = Rule::kStates;
  float state[kMostStates] = {kStates > 0 ? a[i] : 0.f, kStates > 1 ? b[i] : 0.f, kStates > 2 ? c[i] : 0.f};
  rule.element(p, gradient, state);
  Magnitude largest = magnitude(p);
  if constexpr (kStates > 0) largest = std::max(largest, magnitude(a[i] = state[0]));
  if constexpr (kStates > 1) largest = std::max(largest, magnitude(b[i] = state[1]));
  if constexpr (kStates > 2) largest = std::max(largest, magnitude(c[i] = state[2]));
  return largest;
}

template <class Rule>
SLIMTUNE_VECTORISED bool run(Rule rule, float* p, const float* gradient, float* a, float* b, float* c, int64_t count) {
  Magnitude largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; i++) largest = std::max(largest, one(rule, p[i], gradient[i], a, b, c, i));
  return isFinite(largest);
}

}  // namespace slimtune
