// Why something failed, by kind: nobody above has to read messages to know what can be done about it.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>

namespace slimtune {

enum class FailureKind { other, outOfMemory };

struct Problem {
  std::string message;
  FailureKind kind;
};
using Failure = std::shared_ptr<const Problem>;

/// The failure that is being caught: called in a catch block. With a name the message says whose failure it is, and on
/// which inputs. Where there is not even memory for that, it is a failure made beforehand.
/// @param inputs describes them
Failure caughtFailure(const char* name = nullptr, const std::function<std::string()>& inputs = nullptr) noexcept;

/// Its error in JavaScript; running out of memory has the code SLIMTUNE_OUT_OF_MEMORY.
Napi::Error toError(Napi::Env env, const Problem& problem);

}  // namespace slimtune
