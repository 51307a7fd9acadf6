// The activations of MLPs by name; their formulas are in activations.h, and in cuda/gate.cu for GPUs.
#pragma once

#include <cstdint>

namespace slimtune {

enum class Activation : int64_t { silu, gelu, geluTanh, relu2, relu };

}  // namespace slimtune
