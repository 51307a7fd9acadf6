// The memory of CPU tensors, and a reserve for telling that there is none left.
#pragma once

namespace slimtune {

/// From here on a CPU tensor that finds no memory throws c10::OutOfMemoryError, as one on a GPU does.
void installCpuAllocator();

/// Gives the reserve to whoever needs memory to tell of too little of it. The next CPU tensor takes it back, if it can.
void openReserve() noexcept;

}  // namespace slimtune
