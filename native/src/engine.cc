#include "engine.h"

#include "profiler.h"
#include "values.h"

namespace slimtune {
namespace {
constexpr double kSlots = 16777216;           // 2^24 live tensors at most
constexpr uint32_t kGenerations = 268435456;  // 2^28: a handle stays an exact double

void cleanup(void* engine) { static_cast<Engine*>(engine)->stop(); }
}  // namespace

Engine::Engine(Napi::Env env) : env_(env) {
  completions_ = Napi::ThreadSafeFunction::New(
      env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "slimtune engine", 0, 1);
  completions_.Unref(env);
  // Hooks run last in, first out: ours comes after the thread-safe function's, so the thread is joined before that dies.
  napi_add_env_cleanup_hook(env, cleanup, this);
  thread_ = std::thread([this] { run(); });
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
  cells_.clear();
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

size_t Engine::pendingJobs() {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.size();
}

double Engine::newHandle(Slot& slot) {
  if (freeSlots_.empty()) {
    if (generations_.size() >= kSlots) throw Napi::Error::New(env_, "more than 2^24 live tensors");
    generations_.push_back(1);
    taken_.push_back(false);
    freeSlots_.push_back(static_cast<Slot>(generations_.size() - 1));
  }
  slot = freeSlots_.back();
  freeSlots_.pop_back();
  taken_[slot] = true;
  live_++;
  return generations_[slot] * kSlots + slot;
}

Slot Engine::resolve(const Napi::Value& value, const std::string& what) {
  if (!value.IsNumber()) throw Napi::TypeError::New(env_, what + ": expected a tensor, got " + kindOf(value));
  const double handle = value.As<Napi::Number>().DoubleValue();
  const double generation = std::floor(handle / kSlots);
  const double slot = handle - generation * kSlots;
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
  taken_[slot] = false;
  generations_[slot] = generations_[slot] + 1 >= kGenerations ? 1 : generations_[slot] + 1;
  freeSlots_.push_back(slot);
  live_--;
  enqueueAlways([this, slot] { cell(slot) = Cell{}; });
}

Cell& Engine::cell(Slot slot) {
  if (slot >= cells_.size()) cells_.resize(slot + 1);
  return cells_[slot];
}

const at::Tensor& Engine::tensor(Slot slot) {
  const Cell& found = cell(slot);
  TORCH_CHECK(found.tensor.defined(), "the tensor is undefined");
  return found.tensor;
}

void Engine::put(Slot slot, at::Tensor tensor) { cell(slot) = Cell{std::move(tensor), nullptr}; }

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
                     const std::function<void()>& body) {
  Failure failure = pending_;
  if (!failure) {
    for (const Slot slot : inputs) {
      if ((failure = cell(slot).failure)) break;
    }
  }
  if (!failure) {
    try {
      body();
      return;
    } catch (const c10::Error& error) {
      failure = std::make_shared<std::string>(std::string(name) + ": " + error.what_without_backtrace() + " (inputs: " +
                                              describe(inputs) + ")");
    } catch (const std::exception& error) {
      failure = std::make_shared<std::string>(std::string(name) + ": " + error.what() + " (inputs: " + describe(inputs) +
                                              ")");
    } catch (...) {
      failure = std::make_shared<std::string>(std::string(name) + ": unknown native error");
    }
  }
  pending_ = failure;
  for (const Slot slot : outputs) cell(slot) = Cell{at::Tensor(), failure};
}

void Engine::enqueue(const char* name, std::vector<Slot> inputs, std::vector<Slot> outputs,
                     std::function<void()> job) {
  const std::vector<Slot> told = eager_ ? outputs : std::vector<Slot>{};
  push([this, name, inputs = std::move(inputs), outputs = std::move(outputs), job = std::move(job)] {
    guarded(name, inputs, outputs, job);
  });
  if (!eager_) return;
  Failure failure;
  wait([&] { failure = std::exchange(pending_, nullptr); });
  if (!failure) return;
  for (const Slot slot : told) release(slot);  // the caller never sees their handles
  throw Napi::Error::New(env_, *failure);
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
  auto completion = std::make_shared<Completion>(Completion{Napi::Promise::Deferred::New(env), nullptr, nullptr});
  if (pendingReads_++ == 0) completions_.Ref(env);  // keep Node alive while somebody waits
  push([this, name, completion, inputs = std::move(inputs), work = std::move(work)] {
    guarded(name, inputs, {}, [&] { completion->settle = work(); });
    completion->failure = std::exchange(pending_, nullptr);
    completions_.NonBlockingCall([this, completion](Napi::Env callEnv, Napi::Function) {
      if (--pendingReads_ == 0) completions_.Unref(callEnv);
      Napi::HandleScope scope(callEnv);
      if (completion->failure) {
        completion->deferred.Reject(Napi::Error::New(callEnv, *completion->failure).Value());
        return;
      }
      try {
        completion->deferred.Resolve(completion->settle(callEnv));
      } catch (const Napi::Error& error) {
        completion->deferred.Reject(error.Value());
      } catch (const std::exception& error) {
        completion->deferred.Reject(Napi::Error::New(callEnv, error.what()).Value());
      }
    });
  });
  return completion->deferred.Promise();
}

}  // namespace slimtune
