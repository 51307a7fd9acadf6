// LibTorch's AdamW over runs of elements, on the CPU. Compiled without fused multiply-add but where the rule says so: its
// bits do not depend on what a compiler makes of it.
#include "rule_loop.h"

namespace slimtune {

template <>
bool update(const TorchAdamWRule<false>& rule, float* p, const float* gradient, float* const* states, int64_t count) {
  const int64_t first = count / rule.kLanes * rule.kLanes;
  const bool finite = run(rule, p, gradient, states[0], states[1], nullptr, first);
  const bool last = run(rule.ofLast(), p + first, gradient + first, states[0] + first, states[1] + first, nullptr, count - first);
  return finite && last;
}

}  // namespace slimtune
