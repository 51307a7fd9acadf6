// The engine thread and its table of tensors.
//
// JavaScript calls enqueue jobs and return; one thread runs them in order, as a CUDA stream does. A tensor is a number
// (handle) = generation * 2^24 + slot. The main thread alone gives out and takes back slots; because jobs run in order,
// a slot can be given out again as soon as its free is enqueued. The engine thread alone touches the tensors.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "failure.h"

namespace slimtune {

using Slot = uint32_t;

/// What a slot holds on the engine thread: a tensor, or why there is none.
struct Cell {
  at::Tensor tensor;
  Failure failure;
};

/// Builds the JavaScript value of a finished read; runs on the main thread.
using Settle = std::function<Napi::Value(Napi::Env)>;

class Engine {
 public:
  explicit Engine(Napi::Env env);
  ~Engine();
  Engine(const Engine&) = delete;

  static Engine& of(Napi::Env env);

  // --- main thread: handles ---
  double newHandle(Slot& slot);
  /// Throws a JavaScript error that names `what` when the value is no live handle.
  Slot resolve(const Napi::Value& value, const std::string& what);
  void release(const Napi::Value& value);
  size_t liveHandles() const { return live_; }

  // --- main thread: jobs ---
  /// Runs `job` in order unless an earlier job failed and nobody has been told yet; then `outputs` carry that failure.
  void enqueue(const char* name, std::vector<Slot> inputs, std::vector<Slot> outputs, std::function<void()> job);
  /// Runs `job` whatever happened before; it must not throw.
  void enqueueAlways(std::function<void()> job);
  /// A promise of what `work` returns; rejected with the first failure that nobody was told of yet.
  Napi::Promise read(Napi::Env env, const char* name, std::vector<Slot> inputs, std::function<Settle()> work);
  /// Runs `work` in order and waits for it. Failures of earlier jobs stay pending.
  void wait(const std::function<void()>& work);
  void setEager(bool eager) { eager_ = eager; }

  // --- engine thread ---
  Cell& cell(Slot slot) noexcept { return cells_[slot / kCellsTogether][slot % kCellsTogether]; }
  /// The tensor of a slot; throws when it is undefined.
  const at::Tensor& tensor(Slot slot);
  void put(Slot slot, at::Tensor tensor) noexcept { cell(slot) = Cell{std::move(tensor), nullptr}; }

  void stop();

 private:
  /// A read on its way back to the main thread; nothing more is allocated for it there.
  struct Completion {
    Engine* engine;
    Napi::Promise::Deferred deferred;
    Settle settle;
    Failure failure;
    std::shared_ptr<Completion> self;  // while only Node's queue knows it
  };
  static void complete(Napi::Env env, Napi::Function, Engine*, Completion* completion);
  using Completions = Napi::TypedThreadSafeFunction<Engine, Completion, complete>;

  void run();
  void push(std::function<void()> job);
  void guarded(const char* name, const std::vector<Slot>& inputs, const std::vector<Slot>& outputs,
               const std::function<void()>& body) noexcept;
  std::string describe(const std::vector<Slot>& slots);
  void release(Slot slot);
  void giveBack(Slot slot) noexcept;

  static constexpr size_t kSlots = 1 << 24;  // live tensors at most
  static constexpr size_t kCellsTogether = 1 << 12;

  // main thread only
  std::vector<uint32_t> generations_;
  std::vector<bool> taken_;
  std::vector<Slot> freeSlots_;
  size_t live_ = 0;
  size_t pendingReads_ = 0;
  bool eager_ = false;
  Napi::Env env_;
  Completions completions_;

  // engine thread only, but that the main thread allocates cells when it gives out the first slot among them: the engine
  // thread allocates nothing for its own bookkeeping, and so never fails in it
  std::array<std::unique_ptr<Cell[]>, kSlots / kCellsTogether> cells_;
  Failure pending_;  // first failure that no await has reported yet

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

/// Turns every C++ exception of a binding into a JavaScript one.
template <typename F>
auto guard(F body) {
  return [body](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return body(info);
    } catch (const Napi::Error&) {
      throw;
    } catch (...) {
      throw toError(info.Env(), *caughtFailure());
    }
  };
}

template <typename F>
void define(Napi::Object& exports, const char* name, F body) {
  exports.Set(name, Napi::Function::New(exports.Env(), guard(body), name));
}

}  // namespace slimtune
