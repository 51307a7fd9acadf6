#include "profiler.h"

#include <ATen/record_function.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <unordered_map>

#include "bindings.h"
#include "engine.h"

namespace slimtune {
namespace profiler {
namespace {

struct Span {
  double name, thread, begin, end;  // begin and end in nanoseconds since the profiler's start: exact below 2^53
};

std::atomic<bool> recording{false};
std::mutex mutex;  // ops also run on threads of their own in other workers
std::vector<Span> spans;
std::unordered_map<std::string, size_t> names;
int64_t origin = 0;
at::CallbackHandle callback = 0;

/// Where there is no memory for it, the span is lost.
void add(const std::string& name, uint64_t thread, int64_t begin, int64_t end) noexcept try {
  std::lock_guard<std::mutex> lock(mutex);
  const size_t index = names.emplace(name, names.size()).first->second;
  spans.push_back({static_cast<double>(index), static_cast<double>(thread), static_cast<double>(begin - origin),
                   static_cast<double>(end - origin)});
} catch (const std::bad_alloc&) {
}

struct Begun : at::ObserverContext {
  int64_t time = now();
};

std::unique_ptr<at::ObserverContext> began(const at::RecordFunction&) { return std::make_unique<Begun>(); }

void ended(const at::RecordFunction& function, at::ObserverContext* context) {
  if (recording) add(function.name(), at::RecordFunction::currentThreadId(), static_cast<Begun*>(context)->time, now());
}

/// startProfiler(): records from now on; what was recorded before is dropped.
Napi::Value start(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> lock(mutex);
  if (recording) throw std::runtime_error("startProfiler: it is running");
  spans.clear();
  names.clear();
  origin = now();
  callback = at::addGlobalCallback(
      at::RecordFunctionCallback(began, ended).scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  recording = true;
  return Napi::Number::New(info.Env(), static_cast<double>(origin));
}

/// stopProfiler(): when the engine has done all it was given, {names, spans: name, thread, begin, end in ns, ...}.
Napi::Value stop(const Napi::CallbackInfo& info) {
  return Engine::of(info.Env()).read(info.Env(), "stopProfiler", {}, []() -> Settle {
    std::lock_guard<std::mutex> lock(mutex);
    TORCH_CHECK(recording, "it is not running");
    recording = false;
    at::removeCallback(callback);
    std::vector<std::string> texts(names.size());
    for (const auto& [name, index] : names) texts[index] = name;
    return [texts = std::move(texts), recorded = std::move(spans)](Napi::Env env) -> Napi::Value {
      Napi::Array list = Napi::Array::New(env, texts.size());
      for (size_t i = 0; i < texts.size(); i++) list.Set(static_cast<uint32_t>(i), texts[i]);
      Napi::Float64Array values = Napi::Float64Array::New(env, recorded.size() * 4);
      if (!recorded.empty()) memcpy(values.Data(), recorded.data(), recorded.size() * sizeof(Span));
      Napi::Object result = Napi::Object::New(env);
      result.Set("names", list);
      result.Set("spans", values);
      return result;
    };
  });
}

}  // namespace

bool on() { return recording; }

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void idle(int64_t begin) {
  if (recording) add("idle", at::RecordFunction::currentThreadId(), std::max(begin, origin), now());
}

}  // namespace profiler

void defineProfiler(Napi::Object& exports) {
  define(exports, "startProfiler", profiler::start);
  define(exports, "stopProfiler", profiler::stop);
}

}  // namespace slimtune
