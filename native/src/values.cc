#include "values.h"

#include <ATen/core/jit_type.h>

#include <cmath>

#include "random.h"

namespace slimtune {
namespace {

struct NamedType {
  const char* name;
  at::ScalarType type;
};
constexpr NamedType kTypes[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
    {"int64", at::kLong},    {"int32", at::kInt},      {"int16", at::kShort},  {"int8", at::kChar},
    {"uint8", at::kByte},    {"bool", at::kBool}};

constexpr double kMaxSafe = 9007199254740991.0;
constexpr uint32_t kMaxList = 1u << 20;  // a sparse array of 2^32 - 1 holes costs JavaScript nothing

[[noreturn]] void reject(const Napi::Value& value, const std::string& what, const std::string& expected) {
  throw Napi::TypeError::New(value.Env(), what + ": expected " + expected + ", got " + kindOf(value));
}

double numberOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsNumber()) reject(value, what, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

/// A whole number is an integer scalar, as a Python literal without a point is.
c10::Scalar scalarOf(const Napi::Value& value, const std::string& what) {
  if (value.IsBoolean()) return c10::Scalar(value.As<Napi::Boolean>().Value());
  const double number = numberOf(value, what);
  if (number == std::floor(number) && std::abs(number) <= kMaxSafe) return c10::Scalar(static_cast<int64_t>(number));
  return c10::Scalar(number);
}

std::string stringOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) reject(value, what, "a string");
  return value.As<Napi::String>().Utf8Value();
}

bool booleanOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsBoolean()) reject(value, what, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

Napi::Array arrayOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsArray()) reject(value, what, "an array");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > kMaxList) {
    throw Napi::RangeError::New(value.Env(), what + ": an array of " + std::to_string(array.Length()) +
                                                 " elements; at most " + std::to_string(kMaxList) + " are taken");
  }
  return array;
}

template <typename T, typename Convert>
c10::IValue listOf(const Napi::Value& value, const std::string& what, Convert convert) {
  const Napi::Array array = arrayOf(value, what);
  c10::List<T> list;
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) list.push_back(convert(array.Get(i), what));
  return list;
}

c10::IValue tensorListOf(Engine& engine, const Napi::Value& value, bool optional, const std::string& what,
                         size_t position, std::vector<TensorArgument>& tensors) {
  const Napi::Array array = arrayOf(value, what);
  c10::List<at::Tensor> plain;
  c10::List<std::optional<at::Tensor>> withGaps;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value element = array.Get(i);
    const bool gap = optional && (element.IsNull() || element.IsUndefined());
    if (!gap) tensors.push_back({position, i, engine.resolve(element, what)});
    if (optional) {
      withGaps.push_back(std::nullopt);
    } else {
      plain.push_back(at::Tensor());
    }
  }
  return optional ? c10::IValue(withGaps) : c10::IValue(plain);
}

c10::IValue listIValue(Engine& engine, const Napi::Value& value, const c10::TypePtr& element, const std::string& what,
                       size_t position, std::vector<TensorArgument>& tensors) {
  switch (element->kind()) {
    case c10::TypeKind::TensorType:
      return tensorListOf(engine, value, false, what, position, tensors);
    case c10::TypeKind::OptionalType:
      return tensorListOf(engine, value, true, what, position, tensors);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return listOf<int64_t>(value, what, integerOf);
    case c10::TypeKind::FloatType:
      return listOf<double>(value, what, numberOf);
    case c10::TypeKind::BoolType:
      return listOf<bool>(value, what, booleanOf);
    case c10::TypeKind::StringType:
      return listOf<std::string>(value, what, stringOf);
    case c10::TypeKind::NumberType: {
      const Napi::Array array = arrayOf(value, what);
      c10::List<at::Scalar> list;
      for (uint32_t i = 0; i < array.Length(); i++) list.push_back(scalarOf(array.Get(i), what));
      return list;
    }
    default:
      throw Napi::TypeError::New(value.Env(), what + ": lists of " + element->str() + " are not supported");
  }
}

}  // namespace

std::string kindOf(const Napi::Value& value) {
  if (value.IsNull()) return "null";
  if (value.IsArray()) return "an array";
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_boolean: return "a boolean";
    case napi_number: return "the number " + value.ToString().Utf8Value();
    case napi_string: return "a string";
    case napi_symbol: return "a symbol";
    case napi_function: return "a function";
    case napi_bigint: return "a bigint";
    default: return "an object";
  }
}

std::string dtypeName(at::ScalarType type) {
  for (const auto& known : kTypes) {
    if (known.type == type) return known.name;
  }
  return c10::toString(type);
}

at::ScalarType dtypeOf(const Napi::Value& value, const std::string& what) {
  const std::string name = stringOf(value, what);
  for (const auto& known : kTypes) {
    if (name == known.name) return known.type;
  }
  throw Napi::TypeError::New(value.Env(), what + ": unknown dtype '" + name + "'");
}

c10::Device deviceOf(const Napi::Value& value, const std::string& what) { return c10::Device(stringOf(value, what)); }

std::string pathOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) reject(value, what, "a path");
  const std::string path = value.As<Napi::String>().Utf8Value();
  if (path.find('\0') != std::string::npos) throw std::runtime_error(what + ": the path has a NUL character");
  return path;
}

int64_t integerOf(const Napi::Value& value, const std::string& what) {
  const double number = numberOf(value, what);
  if (number != std::floor(number) || std::abs(number) > kMaxSafe) reject(value, what, "an integer");
  return static_cast<int64_t>(number);
}

std::vector<int64_t> shapeOf(const Napi::Value& value, const std::string& what) {
  const Napi::Array array = arrayOf(value, what);
  std::vector<int64_t> shape;
  for (uint32_t i = 0; i < array.Length(); i++) {
    shape.push_back(integerOf(array.Get(i), what));
    if (shape.back() < 0) reject(array.Get(i), what, "sizes of zero or more");
  }
  return shape;
}

std::pair<const uint8_t*, size_t> bytesOf(const Napi::Value& value, const std::string& what) {
  void* data = nullptr;
  size_t size = 0;
  if (value.IsTypedArray()) {
    // Not through Napi::ArrayBuffer: this way a view of shared memory works too.
    if (napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::Error::New(value.Env());
    }
    size = value.As<Napi::TypedArray>().ByteLength();
  } else if (value.IsDataView()) {
    if (napi_get_dataview_info(value.Env(), value, &size, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::Error::New(value.Env());
    }
  } else if (value.IsArrayBuffer()) {
    auto buffer = value.As<Napi::ArrayBuffer>();
    data = buffer.Data();
    size = buffer.ByteLength();
  } else {
    reject(value, what, "a typed array or an ArrayBuffer");
  }
  return {static_cast<const uint8_t*>(data), size};
}

c10::IValue toIValue(Engine& engine, const Napi::Value& value, const c10::TypePtr& type, const std::string& what,
                     size_t position, std::vector<TensorArgument>& tensors) {
  switch (type->kind()) {
    case c10::TypeKind::OptionalType:
      if (value.IsNull() || value.IsUndefined()) return c10::IValue();
      return toIValue(engine, value, type->castRaw<c10::OptionalType>()->getElementType(), what, position, tensors);
    case c10::TypeKind::TensorType:
      tensors.push_back({position, -1, engine.resolve(value, what)});
      return c10::IValue();
    case c10::TypeKind::ListType:
      return listIValue(engine, value, type->castRaw<c10::ListType>()->getElementType(), what, position, tensors);
    case c10::TypeKind::NumberType:
      return scalarOf(value, what);
    case c10::TypeKind::ScalarTypeType:
      return static_cast<int64_t>(dtypeOf(value, what));
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return integerOf(value, what);
    case c10::TypeKind::MemoryFormatType: {
      const int64_t format = integerOf(value, what);  // contiguous, preserve, channels_last, channels_last_3d
      if (format < 0 || format > 3) reject(value, what, "a memory format from 0 to 3");
      return format;
    }
    case c10::TypeKind::LayoutType:
      throw Napi::TypeError::New(value.Env(), what + ": only strided tensors are supported; leave it out");
    case c10::TypeKind::FloatType:
      return numberOf(value, what);
    case c10::TypeKind::BoolType:
      return booleanOf(value, what);
    case c10::TypeKind::StringType:
      return stringOf(value, what);
    case c10::TypeKind::DeviceObjType:
      return deviceOf(value, what);
    case c10::TypeKind::GeneratorType:
      return generatorOf(value, what);
    default:
      throw Napi::TypeError::New(value.Env(), what + ": arguments of type " + type->str() + " are not supported");
  }
}

}  // namespace slimtune
