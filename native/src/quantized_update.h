// An update with 8-bit states on the CPU: a block is decoded, updated and encoded in the cache, so that no float32 state
// exists in memory. The weights' update uses the new states before they are rounded.
#pragma once

#include <algorithm>
#include <cmath>

#include "dynamic_map.h"
#include "optimizer_rules.h"

namespace slimtune {

/// A run of at most kQuantizedBlock elements with 8-bit states. Where a gradient is not finite, the weight stays and its
/// states become zero: one such element would otherwise spoil the scale of its block. Returns whether all weights and
/// states that it made are finite.
template <class Rule>
bool updateQuantized(const Rule& rule, float* p, const float* g, uint8_t* const* codes, float* const* scales,
                     int64_t count) {
  float values[kMostStates][kQuantizedBlock], before[kQuantizedBlock];
  float* states[kMostStates] = {};
  const auto map = [](int state) -> const DynamicMap& {
    return Rule::hasSign(state) ? DynamicMap::withSign() : DynamicMap::withoutSign();
  };
  for (int s = 0; s < Rule::kStates; s++) {
    states[s] = values[s];
    map(s).decode(codes[s], *scales[s], values[s], count);
  }
  const auto finite = [count](const float* x) { return std::all_of(x, x + count, [](float y) { return std::isfinite(y); }); };
  const bool spoilt = !finite(g);
  if (spoilt) std::copy(p, p + count, before);
  bool made = update(rule, p, g, states, count);
  if (spoilt) {
    for (int64_t i = 0; i < count; i++) {
      if (std::isfinite(g[i])) continue;
      p[i] = before[i];
      for (int s = 0; s < Rule::kStates; s++) values[s][i] = 0.f;
    }
    made = finite(p) && std::all_of(states, states + Rule::kStates, finite);
  }
  for (int s = 0; s < Rule::kStates; s++) *scales[s] = map(s).encode(values[s], codes[s], count);
  return made;
}

}  // namespace slimtune
