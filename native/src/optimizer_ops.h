// slimtune::…_step_: one update of many parameters by a rule that takes each element by itself. What is the same on every
// device: arguments, their checks, and what an update computes once.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>

#include "optimizer_rules.h"

namespace slimtune {

/// What an update works on: n parameters, their gradients, and n tensors for each of the rule's states (all of the first
/// state, then all of the second). With 8-bit states these are uint8, and `scales` has as many float32 tensors.
struct UpdateTensors {
  at::TensorList parameters, gradients, states, scales;
  const at::Tensor& nonfinite;  // float32, one element: becomes 1 where a weight or state that the update made is not finite
  const at::Tensor& state(size_t parameter, int state) const { return states[place(parameter, state)]; }
  const at::Tensor& scale(size_t parameter, int state) const { return scales[place(parameter, state)]; }
  size_t place(size_t parameter, int state) const { return parameter + static_cast<size_t>(state) * parameters.size(); }
};

/// Sets it to 1 where one of those tensors is not finite, by one more pass over them. Waits for nothing.
inline void noteNonfinite(const at::Tensor& nonfinite, std::initializer_list<at::TensorList> made) {
  std::vector<at::Tensor> all;
  for (const at::TensorList& some : made) all.insert(all.end(), some.begin(), some.end());
  at::Tensor found = nonfinite;  // the op is made for gradients with a scale, here of 1
  at::_amp_foreach_non_finite_check_and_unscale_(all, found, at::ones({}, nonfinite.options()));
}

inline void checkNonfinite(const at::Tensor& nonfinite, at::TensorList parameters) {
  TORCH_CHECK(nonfinite.scalar_type() == at::kFloat && nonfinite.layout() == at::kStrided && nonfinite.numel() == 1 &&
                  (parameters.empty() || nonfinite.device() == parameters[0].device()),
              "nonfinite must be one float32 on the parameters' device");
}

inline void checkUpdate(const UpdateTensors& tensors, int states) {
  const auto& [parameters, gradients, values, scales, nonfinite] = tensors;
  checkNonfinite(nonfinite, parameters);
  const size_t count = parameters.size();
  TORCH_CHECK(gradients.size() == count && values.size() == count * states, "expected a gradient and ", states,
              " states for each of ", count, " parameters, got ", gradients.size(), " and ", values.size());
  TORCH_CHECK(scales.empty() || scales.size() == values.size(), "expected no scales or one tensor for each of ",
              values.size(), " states, got ", scales.size());
  for (size_t i = 0; i < count; i++) {
    const int64_t elements = parameters[i].numel();
    const auto isPlain = [&](const at::Tensor& tensor, at::ScalarType type, int64_t size) {
      return tensor.device() == parameters[0].device() && tensor.layout() == at::kStrided && tensor.is_contiguous() &&
             tensor.scalar_type() == type && tensor.numel() == size;
    };
    TORCH_CHECK(isPlain(parameters[i], at::kFloat, elements) && isPlain(gradients[i], at::kFloat, elements), "parameter ",
                i, " and its gradient must be contiguous float32 of one size, on one device with all others");
    for (size_t at = i; at < values.size(); at += count) {
      TORCH_CHECK(isPlain(values[at], scales.empty() ? at::kFloat : at::kByte, elements), "state ", at,
                  " must be contiguous, of its parameter's size and device and ", scales.empty() ? "float32" : "uint8");
      TORCH_CHECK(scales.empty() || isPlain(scales[at], at::kFloat, (elements + kQuantizedBlock - 1) / kQuantizedBlock),
                  "scales ", at, " must be float32, one for each ", kQuantizedBlock, " elements, on its state's device");
    }
  }
}

/// The ops by what a device does: Device::step(rule, tensors) updates checked tensors, at least one.
template <class Device>
struct OptimizerOps {
  template <class Rule>
  static void step(const Rule& rule, const UpdateTensors& tensors) {
    checkUpdate(tensors, Rule::kStates);
    if (!tensors.parameters.empty()) Device::step(rule, tensors);
  }

  static float narrow(double value) { return static_cast<float>(value); }

  static void torchAdamW(at::TensorList self, at::TensorList gradients, at::TensorList states, const at::Tensor& nonfinite,
                         double gradientScale, double lr, double weightDecay, int64_t step_, double beta1, double beta2,
                         double eps) {
    const auto t = static_cast<double>(step_);
    step(TorchAdamWRule<false>{narrow(1 / gradientScale), narrow(-lr / (1 - std::pow(beta1, t))),
                               narrow(1 - lr * weightDecay), narrow(1 - beta1), narrow(beta2), narrow(1 - beta2),
                               narrow(std::sqrt(1 - std::pow(beta2, t))), narrow(eps)},
         {self, gradients, states, {}, nonfinite});
  }

  static void adamw(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                    const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, int64_t step_,
                    double beta1, double beta2, double eps) {
    const auto t = static_cast<double>(step_);
    step(AdamWRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2),
                   narrow(eps), narrow(1 - std::pow(beta1, t)), narrow(std::sqrt(1 - std::pow(beta2, t)))},
         {self, gradients, states, scales, nonfinite});
  }

  static void lion(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                   const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, double beta1,
                   double beta2) {
    step(LionRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2)},
         {self, gradients, states, scales, nonfinite});
  }

  static void ademamix(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                       const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, int64_t step_,
                       double beta1, double beta2, double beta3, double alpha, double eps) {
    const auto t = static_cast<double>(step_);
    step(AdEMAMixRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2),
                      narrow(beta3), narrow(alpha), narrow(eps), narrow(1 - std::pow(beta1, t)),
                      narrow(std::sqrt(1 - std::pow(beta2, t)))},
         {self, gradients, states, scales, nonfinite});
  }

  static void sgd(at::TensorList self, at::TensorList gradients, at::TensorList states, const at::Tensor& nonfinite,
                  double gradientScale, double lr, double weightDecay, double momentum, double dampening, bool nesterov) {
    const auto run = [&](auto buffered) {
      step(SGDRule<buffered.value>{narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(momentum),
                                   narrow(dampening), nesterov},
           {self, gradients, states, {}, nonfinite});
    };
    narrow(momentum) == 0.f ? run(std::false_type{}) : run(std::true_type{});
  }

  static void rmsprop(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                      const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, double alpha,
                      double eps, double momentum, bool centered) {
    const auto run = [&](auto centred, auto buffered) {
      step(RMSpropRule<centred.value, buffered.value>{narrow(gradientScale), narrow(lr), narrow(weightDecay),
                                                      narrow(alpha), narrow(eps), narrow(momentum)},
           {self, gradients, states, scales, nonfinite});
    };
    const auto choose = [&](auto centred) {
      narrow(momentum) == 0.f ? run(centred, std::false_type{}) : run(centred, std::true_type{});
    };
    centered ? choose(std::true_type{}) : choose(std::false_type{});
  }

  static void adagrad(at::TensorList self, at::TensorList gradients, at::TensorList states, const at::Tensor& nonfinite,
                      double gradientScale, double lr, double weightDecay, double eps) {
    step(AdagradRule{narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(eps)},
         {self, gradients, states, {}, nonfinite});
  }

  static void implement(torch::Library& library) {
    library.impl("adamw_step_", adamw);
    library.impl("lion_step_", lion);
    library.impl("ademamix_step_", ademamix);
    library.impl("sgd_step_", sgd);
    library.impl("rmsprop_step_", rmsprop);
    library.impl("adagrad_step_", adagrad);
  }
};

}  // namespace slimtune
