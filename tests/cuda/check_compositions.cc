// The compositions that serve devices without kernels of slimtune's own, against the CPU's kernels: both are called with
// the same CPU tensors, a composition by the dispatch key of a device that has nothing else. A library for a process that
// has loaded slimtune.node: it says what differs when it is loaded.
#include <cstdio>

#include "checks.h"

// Once more, for the instruction set that this is compiled for: the native module has chosen the machine's best.
#define SLIMTUNE_VECTORISED
#include "../../native/src/torch_adamw.cc"

using at::Tensor;
using Tensors = std::vector<Tensor>;

namespace {

int failures = 0;

}  // namespace

void fail(const std::string& what, const std::string& how) {
  failures++;
  std::printf("%s: %s\n", what.c_str(), how.c_str());
}

void same(const std::string& what, const Tensor& actual, const Tensor& expected, double tolerance) {
  if (!at::allclose(actual, expected, tolerance, tolerance * 1e-2, true)) {
    fail(what, "off by " + std::to_string((actual - expected).abs().max().item<double>()));
  }
}

namespace {

Tensors copies(const Tensors& tensors) {
  Tensors result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.clone());
  return result;
}

// --- optimizers ---

struct Update {
  Tensors weights, states, scales;
  Tensor nonfinite = at::zeros({});
};

/// run(composed, tensors, gradients) makes one update; `count` states for each parameter.
template <typename Run>
void checkOptimizer(const std::string& name, int count, bool quantized, const Run& run) {
  Update expected;
  for (const int64_t size : {5, 0, 256, 700, 20000}) expected.weights.push_back(at::randn({size}));
  for (int s = 0; s < count; s++) {
    for (const Tensor& weight : expected.weights) {
      expected.states.push_back(at::zeros(weight.sizes(), quantized ? at::kByte : at::kFloat));
      if (quantized) expected.scales.push_back(at::zeros({(weight.numel() + 255) / 256}));
    }
  }
  Update actual{copies(expected.weights), copies(expected.states), copies(expected.scales), at::zeros({})};
  for (int step = 1; step <= 4; step++) {
    Tensors gradients;
    for (const Tensor& weight : expected.weights) {
      gradients.push_back(at::randn_like(weight) * at::pow(10, at::randint(-3, 2, weight.sizes(), at::kFloat)));
      if (quantized && weight.numel() > 300) gradients.back()[298].fill_(step == 2 ? INFINITY : NAN);
    }
    run(false, expected, copies(gradients), step);
    run(true, actual, copies(gradients), step);
  }
  const auto noted = [&](float value) {
    for (const Update* update : {&expected, &actual}) {
      if (update->nonfinite.item<float>() != value) fail(name, "notes wrongly whether all that it made is finite");
    }
  };
  noted(0);
  // The kernels may fuse a product and a sum: a code on the border between two can become the other one.
  for (size_t i = 0; i < expected.weights.size(); i++) same(name + ": weight", actual.weights[i], expected.weights[i], quantized ? 1e-2 : 1e-4);
  for (size_t i = 0; i < expected.scales.size(); i++) same(name + ": scale", actual.scales[i], expected.scales[i], 1e-2);
  for (size_t i = 0; i < expected.states.size(); i++) {
    const Tensor &a = actual.states[i], &b = expected.states[i];
    if (!quantized) {
      same(name + ": state", a, b, 1e-4);
    } else if (a.numel() > 0 && ((a != b).sum().item<double>() > 2e-3 * static_cast<double>(a.numel()) + 1)) {
      fail(name + ": codes", std::to_string((a != b).sum().item<int64_t>()) + " differ");
    }
  }
  Tensors gradients;
  for (const Tensor& weight : expected.weights) gradients.push_back(at::ones_like(weight));
  for (Update* update : {&expected, &actual}) update->weights[4][12345].fill_(INFINITY);
  run(false, expected, copies(gradients), 5);
  run(true, actual, copies(gradients), 5);
  noted(1);
}

void checkOptimizers() {
  using Lists = at::TensorList;
  constexpr double scale = 0.5, lr = 1e-2, decay = 0.1;
  for (const bool quantized : {false, true}) {
    const std::string bits = quantized ? ", 8 bits" : "";
    checkOptimizer("AdamW" + bits, 2, quantized, [&](bool composed, Update& u, const Tensors& g, int64_t step) {
      call<void(Lists, Lists, Lists, Lists, const Tensor&, double, double, double, int64_t, double, double, double)>(
          composed, "slimtune::adamw_step_", u.weights, g, u.states, u.scales, u.nonfinite, scale, lr, decay, step, 0.9, 0.99,
          1e-8);
    });
    checkOptimizer("Lion" + bits, 1, quantized, [&](bool composed, Update& u, const Tensors& g, int64_t) {
      call<void(Lists, Lists, Lists, Lists, const Tensor&, double, double, double, double, double)>(
          composed, "slimtune::lion_step_", u.weights, g, u.states, u.scales, u.nonfinite, scale, lr, decay, 0.9, 0.99);
    });
    checkOptimizer("AdEMAMix" + bits, 3, quantized, [&](bool composed, Update& u, const Tensors& g, int64_t step) {
      call<void(Lists, Lists, Lists, Lists, const Tensor&, double, double, double, int64_t, double, double, double, double,
                double)>(composed, "slimtune::ademamix_step_", u.weights, g, u.states, u.scales, u.nonfinite, scale, lr, decay,
                         step, 0.9, 0.99, 0.999, 5., 1e-8);
    });
    for (const double momentum : {0., 0.9}) {
      for (const bool centered : {false, true}) {
        if (quantized && centered) continue;  // a variance that rounding makes negative is no number
        checkOptimizer("RMSprop" + bits, 1 + (momentum > 0) + centered, quantized,
                       [&](bool composed, Update& u, const Tensors& g, int64_t) {
                         call<void(Lists, Lists, Lists, Lists, const Tensor&, double, double, double, double, double,
                                   double, bool)>(composed, "slimtune::rmsprop_step_", u.weights, g, u.states, u.scales,
                                                  u.nonfinite, scale, lr, decay, 0.9, 0.1, momentum, centered);
                       });
      }
    }
  }
  for (const double momentum : {0., 0.9}) {
    checkOptimizer("SGD", momentum > 0, false, [&](bool composed, Update& u, const Tensors& g, int64_t) {
      call<void(Lists, Lists, Lists, const Tensor&, double, double, double, double, double, bool)>(
          composed, "slimtune::sgd_step_", u.weights, g, u.states, u.nonfinite, scale, lr, decay, momentum, 0., momentum > 0);
    });
  }
  checkOptimizer("Adagrad", 1, false, [&](bool composed, Update& u, const Tensors& g, int64_t) {
    call<void(Lists, Lists, Lists, const Tensor&, double, double, double, double)>(
        composed, "slimtune::adagrad_step_", u.weights, g, u.states, u.nonfinite, scale, lr, decay, 1e-10);
  });
}

/// PyTorch's AdamW bit for bit: the kernel as the native module has it and as it is compiled here (for AVX2), against the
/// composition, which is LibTorch's fused op.
void checkTorchAdamW() {
  const auto any = [](double low, double high) { return low + (high - low) * at::rand({}, at::kDouble).item<double>(); };
  const auto oneOf = [&](std::vector<double> values) { return values[static_cast<size_t>(any(0, values.size() - 1e-9))]; };
  const auto scattered = [&](int64_t size) {
    return at::randn({size}) * at::pow(10, at::rand({size}) * 30 - 20) * at::rand({size}).gt(0.05);
  };
  for (int trial = 0; trial < 60; trial++) {
    Update updates[3];  // LibTorch's, the native module's, this file's
    for (const int64_t size : {1, 5, 8, 13, 64, 1000, static_cast<int>(any(1, 40000))}) {
      updates[0].weights.push_back(scattered(size));
      updates[0].states.push_back(at::zeros({size}));
    }
    const size_t count = updates[0].weights.size();
    for (size_t i = 0; i < count; i++) updates[0].states.push_back(at::zeros_like(updates[0].states[i]));
    for (Update& update : updates) update = {copies(updates[0].weights), copies(updates[0].states), {}, at::zeros({})};
    const double scale = oneOf({1, 0.125, any(0.01, 1)}), lr = std::pow(10, any(-6, 0)), decay = oneOf({0, 0.01, any(0, 1)});
    const double beta1 = oneOf({0, 0.5, 0.9, any(0, 1)}), beta2 = oneOf({0, 0.95, 0.999, any(0, 1)});
    const double eps = oneOf({0, 1e-8, 1e-6, any(0, 0.1)});
    const auto first = static_cast<int64_t>(oneOf({1, 2, 100, 100000}));
    for (int64_t t = first; t < first + 4; t++) {
      Tensors gradients;
      for (const Tensor& weight : updates[0].weights) gradients.push_back(scattered(weight.numel()));
      for (const bool composed : {true, false}) {
        call<void(at::TensorList, at::TensorList, at::TensorList, const Tensor&, double, double, double, int64_t, double, double, double)>(
            composed, "slimtune::torch_adamw_step_", updates[composed ? 0 : 1].weights, copies(gradients),
            updates[composed ? 0 : 1].states, updates[composed ? 0 : 1].nonfinite, scale, lr, decay, t, beta1, beta2, eps);
      }
      const auto step = static_cast<double>(t);
      const slimtune::TorchAdamWRule<false> rule{
          static_cast<float>(1 / scale), static_cast<float>(-lr / (1 - std::pow(beta1, step))),
          static_cast<float>(1 - lr * decay), static_cast<float>(1 - beta1), static_cast<float>(beta2),
          static_cast<float>(1 - beta2), static_cast<float>(std::sqrt(1 - std::pow(beta2, step))), static_cast<float>(eps)};
      for (size_t i = 0; i < count; i++) {
        float* states[] = {updates[2].states[i].data_ptr<float>(), updates[2].states[count + i].data_ptr<float>()};
        slimtune::update(rule, updates[2].weights[i].data_ptr<float>(), gradients[i].data_ptr<float>(), states,
                         gradients[i].numel());
      }
    }
    for (int other = 1; other < 3; other++) {
      const auto bits = [&](const char* what, const Tensor& actual, const Tensor& expected) {
        const auto differ = (actual.view(at::kInt) != expected.view(at::kInt)).sum().item<int64_t>();
        if (differ == 0) return;
        fail(std::string(what) + (other == 1 ? " of the native module's" : " of AVX2's") + " AdamW",
             std::to_string(differ) + " of " + std::to_string(actual.numel()) + " differ from LibTorch's");
      };
      for (size_t i = 0; i < count; i++) bits("weights", updates[other].weights[i], updates[0].weights[i]);
      for (size_t i = 0; i < 2 * count; i++) bits("states", updates[other].states[i], updates[0].states[i]);
    }
  }
}

void checkAdafactor() {
  const Tensors weights{at::randn({40, 70}), at::randn({30}), at::randn({3, 1}), at::zeros({0, 4})};
  Tensors states;
  for (const Tensor& weight : weights) {
    for (const int64_t size : weight.sizes()) states.push_back(at::zeros({size}));
  }
  Tensors weightsOf[2] = {copies(weights), copies(weights)}, statesOf[2] = {copies(states), copies(states)};
  const Tensor nonfinite[2] = {at::zeros({}), at::zeros({})};
  const auto update = [&](bool composed, const Tensors& gradients, int step) {
    const Tensor workspace = call<Tensor(at::TensorList)>(composed, "slimtune::adafactor_workspace", weights);
    call<void(at::TensorList, at::TensorList, at::TensorList, const Tensor&, const Tensor&, double, double, double, double,
              double, double)>(composed, "slimtune::adafactor_step_", weightsOf[composed], gradients, statesOf[composed],
                               workspace, nonfinite[composed], 0.5, 1e-2, 0.1, 1 - std::pow(step, -0.8), 1e-30, 1.0);
  };
  for (int step = 1; step <= 3; step++) {
    Tensors gradients;
    for (const Tensor& weight : weights) gradients.push_back(at::randn_like(weight));
    for (const bool composed : {false, true}) update(composed, gradients, step);
  }
  const auto noted = [&](float value) {
    for (const Tensor& flag : nonfinite) {
      if (flag.item<float>() != value) fail("Adafactor", "notes wrongly whether all that it made is finite");
    }
  };
  noted(0);
  for (size_t i = 0; i < weights.size(); i++) same("Adafactor: weight", weightsOf[1][i], weightsOf[0][i]);
  for (size_t i = 0; i < states.size(); i++) same("Adafactor: state", statesOf[1][i], statesOf[0][i]);
  for (const bool composed : {false, true}) {
    weightsOf[composed][0][17][3].fill_(INFINITY);
    update(composed, {at::ones({40, 70}), at::ones({30}), at::ones({3, 1}), at::zeros({0, 4})}, 4);
  }
  noted(1);
}

// --- quantized weights: bit for bit ---

void checkDequantized(const std::string& name, const Tensors& weight, int64_t out, int64_t in) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    for (const auto& [begin, rows] : std::vector<std::pair<int64_t, int64_t>>{{0, out}, {out / 3, out / 2}, {out - 1, 1}}) {
      Tensor results[2];
      for (const bool composed : {false, true}) {
        results[composed] = at::full({rows, in}, NAN, dtype);
        call<void(at::TensorList, int64_t, const Tensor&)>(composed, "slimtune::_dequantize_rows", weight, begin,
                                                           results[composed]);
      }
      if (!at::equal(results[0], results[1])) fail(name, "rows from " + std::to_string(begin) + " differ");
    }
  }
}

void checkQuantized() {
  for (const auto& [out, in] : std::vector<std::pair<int64_t, int64_t>>{{7, 18}, {130, 192}, {300, 100}}) {
    const Tensor weight = at::randn({out, in});
    for (const char* type : {"nf4", "fp4"}) {
      for (const bool nested : {false, true}) {
        checkDequantized(type, call<Tensors(const Tensor&, c10::string_view, bool)>(false, "slimtune::quantize_4bit", weight,
                                                                                    c10::string_view(type), nested), out, in);
      }
    }
    checkDequantized("int8", call<Tensors(const Tensor&)>(false, "slimtune::quantize_8bit", weight), out, in);
  }
}

// --- targets ---

void checkTargets() {
  for (const auto& [values, right] : std::vector<std::pair<std::vector<int64_t>, bool>>{
           {{0, 4, 2}, true}, {{}, true}, {{0, 5, 2}, false}, {{-1, 3}, false}, {{int64_t{1} << 40}, false}}) {
    const Tensor targets = at::tensor(values, at::kLong), loss = at::zeros({});
    const Tensor indices = call<Tensor(const Tensor&, int64_t, const Tensor&)>(true, "slimtune::_checked_targets", targets, 5, loss);
    if (!at::equal(indices, targets.clamp(0, 4))) fail("targets", "not safe to use");
    if (loss.isnan().item<bool>() == right) fail("targets", "the loss does not say whether they are right");
  }
}

const bool ran = [] {
  at::manual_seed(3);
  checkOptimizers();
  checkTorchAdamW();
  checkAdafactor();
  checkQuantized();
  checkTargets();
  checkStages();
  checkAttention();
  std::printf(failures == 0 ? "all compositions agree\n" : "%d failures\n", failures);
  std::fflush(stdout);
  return true;
}();

}  // namespace
