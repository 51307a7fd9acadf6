// Backward passes and gradients.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

/// backward(tensor, gradient | null): adds d tensor / d leaf to the gradient of every leaf that requires one.
/// Without a gradient the tensor is a scalar.
Napi::Value backward(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot slot = engine.resolve(info[0], "backward");
  const bool given = !info[1].IsNull() && !info[1].IsUndefined();
  const Slot gradient = given ? engine.resolve(info[1], "backward: gradient") : 0;
  std::vector<Slot> inputs = {slot};
  if (given) inputs.push_back(gradient);
  engine.enqueue("backward", inputs, {}, [&engine, slot, given, gradient] {
    c10::AutoGradMode mode(true);
    torch::autograd::variable_list gradients;
    if (given) gradients.push_back(engine.tensor(gradient));
    torch::autograd::backward({engine.tensor(slot)}, gradients);
  });
  return info.Env().Undefined();
}

/// grad(leaf): a handle of its gradient; using it fails when there is none.
Napi::Value grad(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot leaf = engine.resolve(info[0], "grad");
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("grad", {leaf}, {slot}, [&engine, leaf, slot] {
    const at::Tensor& tensor = engine.tensor(leaf);
    TORCH_CHECK(tensor.is_leaf() && tensor.grad().defined(), "the tensor has no gradient");
    engine.put(slot, tensor.grad());
  });
  return Napi::Number::New(info.Env(), handle);
}

/// setGrad(leaf, gradient | null): null frees it.
Napi::Value setGrad(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot leaf = engine.resolve(info[0], "setGrad");
  if (info[1].IsNull() || info[1].IsUndefined()) {
    engine.enqueue("setGrad", {leaf}, {}, [&engine, leaf] { engine.tensor(leaf).mutable_grad() = at::Tensor(); });
  } else {
    const Slot value = engine.resolve(info[1], "setGrad");
    engine.enqueue("setGrad", {leaf, value}, {}, [&engine, leaf, value] {
      const at::Tensor& tensor = engine.tensor(leaf);
      const at::Tensor& gradient = engine.tensor(value);
      TORCH_CHECK(tensor.sizes() == gradient.sizes() && tensor.scalar_type() == gradient.scalar_type() &&
                      tensor.device() == gradient.device(),
                  "the gradient's shape, dtype or device differs from the tensor's");
      tensor.mutable_grad() = gradient;
    });
  }
  return info.Env().Undefined();
}

}  // namespace

void defineAutograd(Napi::Object& exports) {
  define(exports, "backward", backward);
  define(exports, "grad", grad);
  define(exports, "setGrad", setGrad);
}

}  // namespace slimtune
