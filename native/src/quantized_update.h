// An update with 8-bit states on the CPU: a block is decoded, updated and encoded in the cache, so that no float32 state
// exists in memory. The weights' update uses the new states before they are rounded.
#pragma once

#include <algorithm>
#include <cmath>

#include "dynamic_map.h"
#include "optimizer_rules.h"

namespace slimtune {

/// A run of at most kQuantizedBlock elements with 8-bit states. Where a gradient is not finite, the weight stays and its
/// states become zero: one such element would otherwise spoil the scale of its block.
template <class Rule>
void updateQuantized(const Rule& rule, float* p, const float* g, uint8_t* const* codes, float* const* scales,
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
  const bool finite = std::all_of(g, g + count, [](float x) { return std::isfinite(x); });
  if (!finite) std::copy(p, p + count, before);
  update(rule, p, g, states, count);
  for (int64_t i = 0; !finite && i < count; i++) {
    if (std::isfinite(g[i])) continue;
    p[i] = before[i];
    for (int s = 0; s < Rule::kStates; s++) values[s][i] = 0.f;
  }
  for (int s = 0; s < Rule::kStates; s++) *scales[s] = map(s).encode(values[s], codes[s], count);
}

}  // namespace slimtune
