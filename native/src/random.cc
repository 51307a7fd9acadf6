// PyTorch's generators: the default one of each device and named ones, seedable, their state readable and settable.
#include "random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <cstring>
#include <unordered_map>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

// Main thread only, of every environment; a generator's own mutex guards its draws.
std::mutex tableMutex;
std::unordered_map<int64_t, at::Generator>& table() {
  static std::unordered_map<int64_t, at::Generator> generators;
  return generators;
}
int64_t nextGenerator = 1;

/// A handle's generator, or a device's default one.
at::Generator generatorOrDefault(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) return generatorOf(value, what);
  return at::globalContext().defaultGenerator(c10::Device(value.As<Napi::String>().Utf8Value()));
}

/// createGenerator(seed): a handle of a CPU generator.
Napi::Value createGenerator(const Napi::CallbackInfo& info) {
  const int64_t seed = integerOf(info[0], "createGenerator: seed");
  std::lock_guard<std::mutex> lock(tableMutex);
  table().emplace(nextGenerator, at::detail::createCPUGenerator(static_cast<uint64_t>(seed)));
  return Napi::Number::New(info.Env(), static_cast<double>(nextGenerator++));
}

Napi::Value freeGenerator(const Napi::CallbackInfo& info) {
  const int64_t id = integerOf(info[0], "freeGenerator");
  std::lock_guard<std::mutex> lock(tableMutex);
  if (table().erase(id) == 0) throw std::runtime_error("freeGenerator: no such generator");
  return info.Env().Undefined();
}

/// manualSeed(seed, generator | null): in order with the ops enqueued before; null: the default ones of all devices.
Napi::Value manualSeed(const Napi::CallbackInfo& info) {
  const int64_t seed = integerOf(info[0], "manualSeed: seed");
  std::optional<at::Generator> generator;
  if (!info[1].IsNull() && !info[1].IsUndefined()) generator = generatorOf(info[1], "manualSeed: generator");
  Engine::of(info.Env()).enqueue("manualSeed", {}, {}, [generator, seed]() mutable {
    if (!generator) return at::manual_seed(static_cast<uint64_t>(seed));
    std::lock_guard<std::mutex> lock(generator->mutex());
    generator->set_current_seed(static_cast<uint64_t>(seed));
  });
  return info.Env().Undefined();
}

/// getRngState(generator | device): a promise of PyTorch's own state bytes (5,056 for the CPU, 16 for CUDA).
Napi::Value getRngState(const Napi::CallbackInfo& info) {
  at::Generator generator = generatorOrDefault(info[0], "getRngState: generator");
  return Engine::of(info.Env()).read(info.Env(), "getRngState", {}, [generator]() -> Settle {
    at::Tensor state;
    {
      at::Generator mutableGenerator = generator;
      std::lock_guard<std::mutex> lock(mutableGenerator.mutex());
      state = generator.get_state().contiguous();
    }
    return [state](Napi::Env env) {
      auto bytes = Napi::Uint8Array::New(env, state.nbytes());
      std::memcpy(bytes.Data(), state.const_data_ptr(), state.nbytes());
      return bytes;
    };
  });
}

/// PyTorch checks a CPU state's size and each counter, but not that they fit: `left` draws from `next` on must lie in the table.
void checkState(const uint8_t* data, size_t size) {
  constexpr size_t kSize = 5056, kLeft = 8, kNext = 16;
  constexpr uint64_t kTable = 624;
  TORCH_CHECK(size == kSize, "a generator's state has ", kSize, " bytes, got ", size);
  int32_t left;
  uint64_t next;
  std::memcpy(&left, data + kLeft, sizeof left);
  std::memcpy(&next, data + kNext, sizeof next);
  TORCH_CHECK(left >= 1 && next <= kTable && static_cast<uint64_t>(left) + next <= kTable + 1,
              "these bytes are no generator's state");
}

/// saveRng(generator | device): a handle of its state, as it is when the ops enqueued before have run.
Napi::Value saveRng(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  at::Generator generator = generatorOrDefault(info[0], "saveRng: generator");
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("saveRng", {}, {slot}, [&engine, slot, generator]() mutable {
    std::lock_guard<std::mutex> lock(generator.mutex());
    engine.put(slot, generator.get_state());
  });
  return Napi::Number::New(info.Env(), handle);
}

/// replayRng(state, generator | device): it goes on from a state that saveRng gave.
Napi::Value replayRng(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  const Slot slot = engine.resolve(info[0], "replayRng");
  at::Generator generator = generatorOrDefault(info[1], "replayRng: generator");
  engine.enqueue("replayRng", {slot}, {}, [&engine, slot, generator]() mutable {
    const at::Tensor& state = engine.tensor(slot);
    TORCH_CHECK(state.is_cpu() && state.scalar_type() == at::kByte && state.is_contiguous(), "a state is a tensor of bytes");
    if (generator.device().is_cpu()) checkState(state.const_data_ptr<uint8_t>(), state.numel());
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  });
  return info.Env().Undefined();
}

/// setRngState(bytes, generator | device).
Napi::Value setRngState(const Napi::CallbackInfo& info) {
  at::Generator generator = generatorOrDefault(info[1], "setRngState: generator");
  const auto [data, size] = bytesOf(info[0], "setRngState");
  if (generator.device().is_cpu()) checkState(data, size);
  at::Tensor state = at::empty({static_cast<int64_t>(size)}, at::kByte);
  std::memcpy(state.mutable_data_ptr(), data, size);
  Engine::of(info.Env()).enqueue("setRngState", {}, {}, [generator, state]() mutable {
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  });
  return info.Env().Undefined();
}

}  // namespace

at::Generator generatorOf(const Napi::Value& value, const std::string& what) {
  const int64_t id = integerOf(value, what);
  std::lock_guard<std::mutex> lock(tableMutex);
  const auto found = table().find(id);
  if (found == table().end()) throw Napi::TypeError::New(value.Env(), what + ": no such generator");
  return found->second;
}

void defineRandom(Napi::Object& exports) {
  define(exports, "createGenerator", createGenerator);
  define(exports, "freeGenerator", freeGenerator);
  define(exports, "manualSeed", manualSeed);
  define(exports, "getRngState", getRngState);
  define(exports, "setRngState", setRngState);
  define(exports, "saveRng", saveRng);
  define(exports, "replayRng", replayRng);
}

}  // namespace slimtune
