// The activations of MLPs, with a gate beside them or alone.
#pragma once

#include <ATen/ATen.h>

#include "activation.h"

namespace slimtune {

Activation activationOf(c10::string_view name);

/// activation(gate) · up, or activation(gate) alone where up is undefined: [N, I].
at::Tensor gateRows(Activation activation, const at::Tensor& gate, const at::Tensor& up);

/// The gradients of gate and up.
std::tuple<at::Tensor, at::Tensor> gateBackward(Activation activation, const at::Tensor& dy, const at::Tensor& gate,
                                                const at::Tensor& up);

}  // namespace slimtune
