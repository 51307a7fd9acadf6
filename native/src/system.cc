// Versions, devices, threads, memory, and the engine's own switches.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <torch/version.h>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

int cudaDevices() { return at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0; }

/// engineInfo(): versions, threads, instruction set and devices; GPUs are made ready, or it throws.
Napi::Value engineInfo(const Napi::CallbackInfo& info) {
  int threads = 0;
  Engine::of(info.Env()).wait([&] {
    threads = at::get_num_threads();
    if (cudaDevices() > 0) at::globalContext().lazyInitDevice(at::kCUDA);
  });
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("torch_version", TORCH_VERSION);
  result.Set("threads", threads);
  result.Set("cpu_capability", at::get_cpu_capability());
  result.Set("mkl", at::hasMKL());
  result.Set("mkldnn", at::hasMKLDNN());
  Napi::Array devices = Napi::Array::New(info.Env());
  devices.Set(0u, "cpu");
  for (int i = 0; i < cudaDevices(); i++) devices.Set(devices.Length(), "cuda:" + std::to_string(i));
  if (at::hasMPS()) devices.Set(devices.Length(), "mps");
  result.Set("devices", devices);
  return result;
}

/// loadLibrary(path): a shared library, which registers the kernels that it has; throws the loader's reason.
Napi::Value loadLibrary(const Napi::CallbackInfo& info) {
  const std::string path = pathOf(info[0], "loadLibrary");
  if (!dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(std::string("loadLibrary: ") + dlerror());
  return info.Env().Undefined();
}

/// deviceMemory(device): {allocated, peak} bytes of an accelerator's caching allocator, which has a lock of its own:
/// this waits for no job.
Napi::Value deviceMemory(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "deviceMemory: expected a device such as cuda:0");
  const c10::Device device(info[0].As<Napi::String>().Utf8Value());
  if (device.is_cpu()) throw std::runtime_error("deviceMemory: the CPU has none of its own; read the process's memory");
  const auto stats =
      at::getDeviceAllocator(device.type())->getDeviceStats(device.has_index() ? device.index() : 0);
  Napi::Object result = Napi::Object::New(info.Env());
  const auto& bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  result.Set("allocated", static_cast<double>(bytes.current));
  result.Set("peak", static_cast<double>(bytes.peak));
  return result;
}

/// setEager(on): every call runs at once and throws where it is made.
Napi::Value setEager(const Napi::CallbackInfo& info) {
  Engine::of(info.Env()).setEager(info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value());
  return info.Env().Undefined();
}

/// flush(): a promise that settles once everything enqueued before has run.
Napi::Value flush(const Napi::CallbackInfo& info) {
  return Engine::of(info.Env()).read(info.Env(), "flush", {}, []() -> Settle {
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value setDeterministic(const Napi::CallbackInfo& info) {
  const bool on = info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value();
  Engine::of(info.Env()).wait([on] { at::globalContext().setDeterministicAlgorithms(on, false); });
  return info.Env().Undefined();
}

/// setTf32(on): whether a GPU may compute float32 products of matrices in TensorFloat-32.
Napi::Value setTf32(const Napi::CallbackInfo& info) {
  const bool on = info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value();
  Engine::of(info.Env()).wait([on] { at::globalContext().setAllowTF32CuBLAS(on); });
  return info.Env().Undefined();
}

}  // namespace

void defineSystem(Napi::Object& exports) {
  define(exports, "engineInfo", engineInfo);
  define(exports, "loadLibrary", loadLibrary);
  define(exports, "deviceMemory", deviceMemory);
  define(exports, "setEager", setEager);
  define(exports, "setDeterministic", setDeterministic);
  define(exports, "setTf32", setTf32);
  define(exports, "flush", flush);
}

}  // namespace slimtune
