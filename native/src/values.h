// JavaScript values <-> ATen values, by schema type.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <utility>
#include <vector>

#include "engine.h"

namespace slimtune {

std::string kindOf(const Napi::Value& value);
std::string dtypeName(at::ScalarType type);
/// Throws a TypeError that names `what` for an unknown name.
at::ScalarType dtypeOf(const Napi::Value& value, const std::string& what);
c10::Device deviceOf(const Napi::Value& value, const std::string& what);
/// Throws unless the value is a string without a NUL character.
std::string pathOf(const Napi::Value& value, const std::string& what);
/// Throws unless the value is a safe integer.
int64_t integerOf(const Napi::Value& value, const std::string& what);
std::vector<int64_t> shapeOf(const Napi::Value& value, const std::string& what);

/// The bytes of an ArrayBuffer, typed array or DataView. Read any other argument before: its getters can move them.
std::pair<const uint8_t*, size_t> bytesOf(const Napi::Value& value, const std::string& what);

/// A tensor argument found while converting: where it goes once the engine thread can see it.
struct TensorArgument {
  size_t position;  // on the stack
  int64_t element;  // in a list, or -1
  Slot slot;
};

/// Converts one argument by its schema type. Tensors become placeholders recorded in `tensors`.
c10::IValue toIValue(Engine& engine, const Napi::Value& value, const c10::TypePtr& type, const std::string& what,
                     size_t position, std::vector<TensorArgument>& tensors);

}  // namespace slimtune
