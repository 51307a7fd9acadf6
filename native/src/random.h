#pragma once

#include <ATen/core/Generator.h>
#include <napi.h>

#include <string>

namespace slimtune {

/// The generator behind a handle of createGenerator; throws a TypeError that names `what`.
at::Generator generatorOf(const Napi::Value& value, const std::string& what);

}  // namespace slimtune
