// The engine thread and its table of tensors.
//
// JavaScript calls enqueue jobs and return; one thread runs them in order, as a CUDA stream does. A tensor is a number
// (handle) = generation * 2^24 + slot. The main thread alone gives out and takes back slots; because jobs run in order,
// a slot can be given out again as soon as its free is enqueued. The engine thread alone touches the tensors.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace slimtune {

using Slot = uint32_t;
using Failure = std::shared_ptr<const std::string>;

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
  size_t pendingJobs();

  // --- engine thread ---
  Cell& cell(Slot slot);
  /// The tensor of a slot; throws when it is undefined.
  const at::Tensor& tensor(Slot slot);
  void put(Slot slot, at::Tensor tensor);

  void stop();

 private:
  struct Completion {
    Napi::Promise::Deferred deferred;
    Settle settle;
    Failure failure;
  };

  void run();
  void push(std::function<void()> job);
  void guarded(const char* name, const std::vector<Slot>& inputs, const std::vector<Slot>& outputs,
               const std::function<void()>& body);
  std::string describe(const std::vector<Slot>& slots);
  void release(Slot slot);

  // main thread only
  std::vector<uint32_t> generations_;
  std::vector<bool> taken_;
  std::vector<Slot> freeSlots_;
  size_t live_ = 0;
  size_t pendingReads_ = 0;
  bool eager_ = false;
  Napi::Env env_;
  Napi::ThreadSafeFunction completions_;

  // engine thread only
  std::deque<Cell> cells_;
  Failure pending_; // first failure that no await has reported yet

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
    } catch (const c10::Error& error) {
      throw Napi::Error::New(info.Env(), error.what_without_backtrace());
    } catch (const std::exception& error) {
      throw Napi::Error::New(info.Env(), error.what());
    } catch (...) {
      throw Napi::Error::New(info.Env(), "unknown native error");
    }
  };
}

template <typename F>
void define(Napi::Object& exports, const char* name, F body) {
  exports.Set(name, Napi::Function::New(exports.Env(), guard(body), name));
}

}  // namespace slimtune
