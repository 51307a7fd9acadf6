// Bytes in, bytes out, and what a tensor is.
#include <cstring>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

/// fromBytes(bytes, dtype, shape, device): a tensor with a copy. To a GPU it goes by way of pinned memory: nobody waits.
Napi::Value fromBytes(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const at::ScalarType dtype = dtypeOf(info[1], "fromBytes: dtype");
  const std::vector<int64_t> shape = shapeOf(info[2], "fromBytes: shape");
  const c10::Device device = deviceOf(info[3], "fromBytes: device");
  const auto [data, size] = bytesOf(info[0], "fromBytes");
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype));
  TORCH_CHECK(tensor.nbytes() == size, "fromBytes: the shape needs ", tensor.nbytes(), " bytes, got ", size);
  if (size) std::memcpy(tensor.mutable_data_ptr(), data, size);
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("fromBytes", {}, {slot}, [&engine, slot, tensor, device] {
    engine.put(slot, device.is_cuda() ? tensor.pin_memory().to(device, /*non_blocking=*/true) : tensor.to(device));
  });
  return Napi::Number::New(info.Env(), handle);
}

Napi::Array shapeArray(Napi::Env env, const std::vector<int64_t>& shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  for (size_t i = 0; i < shape.size(); i++) {
    array.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(shape[i])));
  }
  return array;
}

/// toBytes(tensor): a promise of {dtype, shape, data: ArrayBuffer} in row-major order.
Napi::Value toBytes(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot slot = engine.resolve(info[0], "toBytes");
  return engine.read(info.Env(), "toBytes", {slot}, [&engine, slot]() -> Settle {
    const at::Tensor& source = engine.tensor(slot);
    TORCH_CHECK(source.layout() == at::kStrided, "only strided tensors have bytes to read, not ", source.layout());
    const at::Tensor tensor = source.detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    return [tensor](Napi::Env env) {
      Napi::ArrayBuffer data = Napi::ArrayBuffer::New(env, tensor.nbytes());
      if (tensor.nbytes()) std::memcpy(data.Data(), tensor.const_data_ptr(), tensor.nbytes());
      Napi::Object result = Napi::Object::New(env);
      result.Set("dtype", dtypeName(tensor.scalar_type()));
      result.Set("shape", shapeArray(env, tensor.sizes().vec()));
      result.Set("data", data);
      return result;
    };
  });
}

/// describe(tensor): {shape, dtype, device, requiresGrad, hasGrad}; waits for the engine.
Napi::Value describe(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot slot = engine.resolve(info[0], "describe");
  Failure failure;
  std::vector<int64_t> shape;
  std::string dtype, device;
  bool requiresGrad = false, hasGrad = false;
  engine.wait([&] {
    failure = engine.cell(slot).failure;
    if (failure) return;
    const at::Tensor& tensor = engine.tensor(slot);
    shape = tensor.sizes().vec();
    dtype = dtypeName(tensor.scalar_type());
    device = tensor.device().str();
    requiresGrad = tensor.requires_grad();
    hasGrad = tensor.is_leaf() && tensor.grad().defined();
  });
  if (failure) throw toError(info.Env(), *failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("shape", shapeArray(info.Env(), shape));
  result.Set("dtype", dtype);
  result.Set("device", device);
  result.Set("requiresGrad", requiresGrad);
  result.Set("hasGrad", hasGrad);
  return result;
}

Napi::Value freeTensor(const Napi::CallbackInfo& info) {
  Engine::of(info.Env()).release(info[0]);
  return info.Env().Undefined();
}

Napi::Value liveTensors(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Engine::of(info.Env()).liveHandles()));
}

}  // namespace

void defineTensors(Napi::Object& exports) {
  define(exports, "fromBytes", fromBytes);
  define(exports, "toBytes", toBytes);
  define(exports, "describe", describe);
  define(exports, "free", freeTensor);
  define(exports, "liveTensors", liveTensors);
}

}  // namespace slimtune
