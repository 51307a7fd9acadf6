#include "cpu_allocator.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <mutex>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

/// Address space that is mapped and never touched. Where it is limited (ulimit -v) JavaScript's engine ends the process
/// when it finds none, and it needs some to tell of a tensor that found none.
class Reserve {
 public:
  void take() noexcept {
    if (held_.load(std::memory_order_relaxed)) return;
    std::lock_guard<std::mutex> lock(mutex_);
    if (held_) return;
    begin_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    held_ = begin_ != MAP_FAILED;
  }
  void open() noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    if (held_) munmap(begin_, kBytes);
    held_ = false;
  }

 private:
  static constexpr size_t kBytes = 32 << 20;
  std::mutex mutex_;
  std::atomic<bool> held_ = false;
  void* begin_ = nullptr;
};
Reserve reserve;

/// LibTorch's own allocator, which tells of too little memory by a message alone.
class CpuAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (untilFailure.load(std::memory_order_relaxed) > 0 && untilFailure.fetch_sub(1) == 1) {
      fail("CPU out of memory, as failAllocation asked for", bytes);
    }
    reserve.take();
    try {
      return own_->allocate(bytes);
    } catch (const c10::Error&) {
      // A size that no number of bytes can be comes from a mistake, not from too little memory.
      if (bytes > static_cast<size_t>(std::numeric_limits<ptrdiff_t>::max())) throw;
    } catch (const std::bad_alloc&) {
    }
    openReserve();
    fail("CPU out of memory", bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return own_->raw_deleter(); }
  void copy_data(void* target, const void* source, size_t bytes) const override { std::memcpy(target, source, bytes); }

  /// Which allocation from now on fails, counted from 1; 0: none.
  std::atomic<int64_t> untilFailure = 0;

 private:
  [[noreturn]] static void fail(const char* what, size_t bytes) {
    constexpr size_t kMebibyte = 1 << 20;
    const bool large = bytes >= kMebibyte;
    C10_THROW_ERROR(OutOfMemoryError, c10::str(what, ". Tried to allocate ", large ? bytes / kMebibyte : bytes,
                                               large ? " MiB." : " bytes."));
  }
  c10::Allocator* const own_ = c10::GetDefaultCPUAllocator();
};

CpuAllocator& allocator() {
  static CpuAllocator* const only = new CpuAllocator;  // tensors may outlive every other static
  return *only;
}

/// failAllocation(n): for tests, the n-th allocation of a CPU tensor after the jobs so far fails; 0: none.
Napi::Value failAllocation(const Napi::CallbackInfo& info) {
  const int64_t n = integerOf(info[0], "failAllocation");
  if (n < 0) throw std::runtime_error("failAllocation: expected 0 or more");
  Engine::of(info.Env()).wait([n] { allocator().untilFailure = n; });
  return info.Env().Undefined();
}

}  // namespace

void installCpuAllocator() {
  reserve.take();
  c10::SetCPUAllocator(&allocator());
}

void openReserve() noexcept { reserve.open(); }

void defineCpuAllocator(Napi::Object& exports) { define(exports, "failAllocation", failAllocation); }

}  // namespace slimtune
