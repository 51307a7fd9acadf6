// The rules over runs of elements, on the CPU.
#include "rule_loop.h"

namespace slimtune {

template <class Rule>
bool update(const Rule& rule, float* p, const float* gradient, float* const* states, int64_t count) {
  const auto state = [&](int s) { return s < Rule::kStates ? states[s] : nullptr; };
  return run(rule, p, gradient, state(0), state(1), state(2), count);
}
#define SLIMTUNE_INSTANTIATE(...) \
  template bool update(const __VA_ARGS__&, float*, const float*, float* const*, int64_t);
SLIMTUNE_EACH_OTHER_RULE(SLIMTUNE_INSTANTIATE)

}  // namespace slimtune
