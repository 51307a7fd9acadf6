// CUDA's runtime as far as the kernels of native/cuda use it, on the CPU: a block's threads are fibers that run in turn
// from one barrier to the next. It shows that a kernel computes the right thing, and nothing of its speed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <tuple>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks run one after another

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

struct Fiber {
  std::unique_ptr<char[]> stack;
  jmp_buf place;  // where it goes on; a switch by swapcontext would be a system call each time
  bool begun = false, done = false;
};
inline jmp_buf scheduler;
inline Fiber* current = nullptr;
inline const std::function<void()>* body = nullptr;
inline std::vector<float> exchanged(1024);

inline void enter() {
  (*body)();
  current->done = true;
  _longjmp(scheduler, 1);
}

inline void begin(Fiber& fiber) {
  constexpr size_t kStack = 64 * 1024;
  if (!fiber.stack) fiber.stack = std::make_unique<char[]>(kStack);
  fiber.begun = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStack;
  makecontext(&context, enter, 0);
  setcontext(&context);
}

/// One thread up to its next barrier or its end.
inline void advance(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  begin(fiber);
}

/// Every thread in turn up to its next barrier, until all are done.
inline void runBlock(unsigned threads, const std::function<void()>& kernel) {
  static std::vector<Fiber> fibers(1024);
  body = &kernel;
  for (unsigned t = 0; t < threads; t++) fibers[t].begun = fibers[t].done = false;
  for (bool left = true; left;) {
    left = false;
    for (unsigned t = 0; t < threads; t++) {
      if (fibers[t].done) continue;
      threadIdx = dim3(t, 0, 0);
      advance(fibers[t]);
      left = left || !fibers[t].done;
    }
  }
}

}  // namespace emulator

inline void __syncthreads() {
  if (_setjmp(emulator::current->place) == 0) _longjmp(emulator::scheduler, 1);
}

/// All threads of the block must come here together.
inline float __shfl_xor_sync(unsigned, float value, int distance) {
  const unsigned own = threadIdx.x;
  emulator::exchanged[own] = value;
  __syncthreads();
  const float other = emulator::exchanged[own ^ static_cast<unsigned>(distance)];
  __syncthreads();
  return other;
}

using std::isfinite;
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... arguments) {
  gridDim = config->gridDim;
  blockDim = config->blockDim;
  const std::function<void()> run = [&] { kernel(arguments...); };
  for (unsigned y = 0; y < gridDim.y; y++) {
    for (unsigned x = 0; x < gridDim.x; x++) {
      blockIdx = dim3(x, y, 0);
      emulator::runBlock(blockDim.x, run);
    }
  }
  return cudaSuccess;
}
