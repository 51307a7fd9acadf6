#include "bindings.h"
#include "cpu_allocator.h"
#include "engine.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

/// Activations are of the same few sizes in every step. By default glibc gives large blocks back to the system at once,
/// which then has to hand out zeroed pages again and again.
void keepFreedMemory() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);  // the engine thread's memory lies where all other lies, and is not cut into 64 MiB heaps
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

Napi::Object init(Napi::Env env, Napi::Object exports) try {
  keepFreedMemory();
  slimtune::installCpuAllocator();
  env.SetInstanceData(new slimtune::Engine(env));
  slimtune::defineDispatch(exports);
  slimtune::defineTensors(exports);
  slimtune::defineAutograd(exports);
  slimtune::defineRandom(exports);
  slimtune::defineFiles(exports);
  slimtune::definePaging(exports);
  slimtune::defineProfiler(exports);
  slimtune::defineCpuAllocator(exports);
  slimtune::defineSystem(exports);
  return exports;
} catch (const std::exception&) {  // no thread for the engine, say
  throw slimtune::toError(env, *slimtune::caughtFailure());
}

}  // namespace

NODE_API_MODULE(slimtune, init)
