#include "engine.h"

#include <ATen/Parallel.h>

#include "profiler.h"
#include "values.h"

namespace slimtune {
namespace {
constexpr double kHandles = 16777216;         // handle = generation * this + slot
constexpr uint32_t kGenerations = 268435456;  // 2^28: a handle stays an exact double

void cleanup(void* engine) { static_cast<Engine*>(engine)->stop(); }

[[noreturn]] void failThreads(size_t started, size_t wanted, const std::exception& error) {
  throw std::runtime_error("only " + std::to_string(started) + " of " + std::to_string(wanted) + " threads could be started (" +
                           error.what() + "): raise the limits on memory and on processes (ulimit -v, ulimit -u), or lower " +
                           "OMP_NUM_THREADS");
}

/// Starts the threads that help the calling one. OpenMP's runtime ends the process when it cannot start one of them: so
/// it is tried before, as often.
void startHelpers() {
  const auto helpers = static_cast<size_t>(at::get_num_threads() - 1);
  std::promise<void> tried;
  const auto end = tried.get_future().share();
  std::vector<std::thread> threads;
  const auto join = [&] {
    tried.set_value();
    for (std::thread& thread : threads) thread.join();
  };
  try {
    while (threads.size() < helpers) threads.emplace_back([end] { end.wait(); });
  } catch (const std::exception& error) {
    join();
    failThreads(threads.size() + 1, helpers + 1, error);
  }
  join();
  at::parallel_for(0, at::get_num_threads(), 1, [](int64_t, int64_t) {});
}
}  // namespace

Engine::Engine(Napi::Env env) : env_(env) {
  completions_ = Completions::New(env, "slimtune engine", 0, 1);
  completions_.Unref(env);
  const auto started = std::make_shared<std::promise<void>>();
  try {
    thread_ = std::thread([this, started] {
      try {
        startHelpers();
      } catch (...) {
        return started->set_exception(std::current_exception());
      }
      started->set_value();
      run();
    });
  } catch (const std::system_error& error) {
    failThreads(0, 1, error);
  }
  try {
    started->get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
  // Hooks run last in, first out: ours comes after the thread-safe function's, so the thread is joined before that dies.
  napi_add_env_cleanup_hook(env, cleanup, this);
}

Engine::~Engine() { stop(); }

Engine& Engine::of(Napi::Env env) { return *env.GetInstanceData<Engine>(); }

void Engine::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (auto& cells : cells_) cells.reset();
}

void Engine::run() {
  for (;;) {
    std::function<void()> job;
    int64_t idleSince = 0;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (profiler::on() && queue_.empty()) idleSince = profiler::now();
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    if (idleSince) profiler::idle(idleSince);
    job();
  }
}

void Engine::push(std::function<void()> job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

double Engine::newHandle(Slot& slot) {
  if (freeSlots_.empty()) {
    const size_t next = generations_.size();
    if (next >= kSlots) throw Napi::Error::New(env_, "more than 2^24 live tensors");
    auto& cells = cells_[next / kCellsTogether];
    if (!cells) cells = std::make_unique<Cell[]>(kCellsTogether);
    freeSlots_.reserve(next + 1);  // so that giving one back never fails
    taken_.resize(next + 1);
    generations_.push_back(1);
    freeSlots_.push_back(static_cast<Slot>(next));
  }
  slot = freeSlots_.back();
  freeSlots_.pop_back();
  taken_[slot] = true;
  live_++;
  return generations_[slot] * kHandles + slot;
}

Slot Engine::resolve(const Napi::Value& value, const std::string& what) {
  if (!value.IsNumber()) throw Napi::TypeError::New(env_, what + ": expected a tensor, got " + kindOf(value));
  const double handle = value.As<Napi::Number>().DoubleValue();
  const double generation = std::floor(handle / kHandles);
  const double slot = handle - generation * kHandles;
  if (!(handle > 0) || slot != std::floor(slot) || slot >= static_cast<double>(generations_.size()) ||
      generation > kGenerations) {
    throw Napi::TypeError::New(env_, what + ": bad tensor handle " + std::to_string(handle));
  }
  const Slot index = static_cast<Slot>(slot);
  if (!taken_[index] || generations_[index] != static_cast<uint32_t>(generation)) {
    throw Napi::Error::New(env_, what + ": the tensor was freed");
  }
  return index;
}

void Engine::release(const Napi::Value& value) { release(resolve(value, "free")); }

void Engine::release(Slot slot) {
  enqueueAlways([this, slot] { cell(slot) = Cell{}; });
  giveBack(slot);
}

void Engine::giveBack(Slot slot) noexcept {
  taken_[slot] = false;
  generations_[slot] = generations_[slot] + 1 >= kGenerations ? 1 : generations_[slot] + 1;
  freeSlots_.push_back(slot);
  live_--;
}

const at::Tensor& Engine::tensor(Slot slot) {
  const Cell& found = cell(slot);
  TORCH_CHECK(found.tensor.defined(), "the tensor is undefined");
  return found.tensor;
}

std::string Engine::describe(const std::vector<Slot>& slots) try {
  std::string text;
  for (const Slot slot : slots) {
    const at::Tensor& tensor = cell(slot).tensor;
    if (!text.empty()) text += ", ";
    if (!tensor.defined()) {
      text += "undefined";
      continue;
    }
    text += dtypeName(tensor.scalar_type()) + "[";
    for (int64_t i = 0; i < tensor.dim(); i++) text += (i ? "," : "") + std::to_string(tensor.size(i));
    text += "]";
    if (text.size() > 400) return text + ", ...";
  }
  return text;
} catch (const std::exception&) {
  return "not describable";  // a nested tensor has no sizes
}

void Engine::guarded(const char* name, const std::vector<Slot>& inputs, const std::vector<Slot>& outputs,
                     const std::function<void()>& body) noexcept {
  Failure failure = pending_;
  for (size_t i = 0; !failure && i < inputs.size(); i++) failure = cell(inputs[i]).failure;
  if (!failure) {
    try {
      body();
      return;
    } catch (...) {
      failure = caughtFailure(name, [&] { return describe(inputs); });
    }
  }
  pending_ = failure;
  for (const Slot slot : outputs) cell(slot) = Cell{at::Tensor(), failure};
}

void Engine::enqueue(const char* name, std::vector<Slot> inputs, std::vector<Slot> outputs,
                     std::function<void()> job) {
  try {
    push([this, name, inputs = std::move(inputs), outputs, job = std::move(job)] {
      guarded(name, inputs, outputs, job);
    });
  } catch (...) {
    for (const Slot slot : outputs) giveBack(slot);  // the caller never sees their handles
    throw;
  }
  if (!eager_) return;
  Failure failure;
  wait([&] { failure = std::exchange(pending_, nullptr); });
  if (!failure) return;
  for (const Slot slot : outputs) release(slot);
  throw toError(env_, *failure);
}

void Engine::enqueueAlways(std::function<void()> job) { push(std::move(job)); }

void Engine::wait(const std::function<void()>& work) {
  std::promise<void> done;
  auto future = done.get_future();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) throw std::runtime_error("the engine has stopped");
    queue_.push_back([&] {
      try {
        work();
        done.set_value();
      } catch (...) {
        done.set_exception(std::current_exception());
      }
    });
  }
  wake_.notify_one();
  future.get();
}

Napi::Promise Engine::read(Napi::Env env, const char* name, std::vector<Slot> inputs, std::function<Settle()> work) {
  auto completion =
      std::make_shared<Completion>(Completion{this, Napi::Promise::Deferred::New(env), nullptr, nullptr, nullptr});
  push([this, name, completion, inputs = std::move(inputs), work = std::move(work)] {
    guarded(name, inputs, {}, [&] { completion->settle = work(); });
    completion->failure = std::exchange(pending_, nullptr);
    completion->self = completion;
    if (completions_.NonBlockingCall(completion.get()) != napi_ok) completion->self = nullptr;
  });
  if (pendingReads_++ == 0) completions_.Ref(env);  // keep Node alive while somebody waits
  return completion->deferred.Promise();
}

void Engine::complete(Napi::Env env, Napi::Function, Engine*, Completion* completion) {
  const auto own = std::exchange(completion->self, nullptr);
  if (!env) return;  // it is ending
  Engine& engine = *own->engine;
  if (--engine.pendingReads_ == 0) engine.completions_.Unref(env);
  Napi::HandleScope scope(env);
  if (own->failure) return own->deferred.Reject(toError(env, *own->failure).Value());
  try {
    own->deferred.Resolve(own->settle(env));
  } catch (const Napi::Error& error) {
    own->deferred.Reject(error.Value());
  } catch (...) {
    own->deferred.Reject(toError(env, *caughtFailure()).Value());
  }
}

}  // namespace slimtune
