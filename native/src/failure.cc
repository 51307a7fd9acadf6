#include "failure.h"

#include <c10/util/Exception.h>

#include <new>

#include "cpu_allocator.h"

namespace slimtune {
namespace {

// Made when the module is loaded.
const Failure noMemoryToSay = std::make_shared<const Problem>(Problem{"out of memory", FailureKind::outOfMemory});

}  // namespace

Failure caughtFailure(const char* name, const std::function<std::string()>& inputs) noexcept try {
  const auto made = [&](const char* what, FailureKind kind) {
    std::string message = name ? std::string(name) + ": " + what : what;
    if (inputs) message += " (inputs: " + inputs() + ")";
    return std::make_shared<const Problem>(Problem{std::move(message), kind});
  };
  try {
    throw;
  } catch (const c10::OutOfMemoryError& error) {
    return made(error.what_without_backtrace(), FailureKind::outOfMemory);
  } catch (const c10::Error& error) {
    return made(error.what_without_backtrace(), FailureKind::other);
  } catch (const std::bad_alloc&) {
    openReserve();
    return made("out of memory", FailureKind::outOfMemory);
  } catch (const std::exception& error) {
    return made(error.what(), FailureKind::other);
  } catch (...) {
    return made("unknown native error", FailureKind::other);
  }
} catch (...) {
  return noMemoryToSay;
}

Napi::Error toError(Napi::Env env, const Problem& problem) {
  Napi::Error error = Napi::Error::New(env, problem.message);
  if (problem.kind == FailureKind::outOfMemory) error.Set("code", "SLIMTUNE_OUT_OF_MEMORY");
  return error;
}

}  // namespace slimtune
