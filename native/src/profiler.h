// What the engine does when: every op that PyTorch dispatches, and the time without work.
#pragma once

#include <cstdint>

namespace slimtune::profiler {

/// Whether spans are recorded.
bool on();

/// Nanoseconds of the steady clock, which is process.hrtime's.
int64_t now();

/// Notes that the calling thread had nothing to do from `begin` until now.
void idle(int64_t begin);

}  // namespace slimtune::profiler
