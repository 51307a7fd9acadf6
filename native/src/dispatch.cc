// Any ATen or slimtune op, called by its schema through the dispatcher.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <deque>
#include <mutex>
#include <unordered_map>

#include "bindings.h"
#include "open_ops.h"
#include "values.h"

namespace slimtune {
namespace {

struct Op {
  std::string name;
  c10::OperatorHandle handle;
  std::vector<c10::TypePtr> types;  // real types: a dtype is a ScalarType, not an int
  bool returnsList = false;
  std::vector<bool> fresh;  // per result: whether it is a new tensor (an in-place op returns its argument: no handle)
};

/// A call on its way to the engine thread.
struct Call {
  const Op* op;
  c10::impl::GenericList::size_type listLength = 0;
  bool grad;
  std::vector<c10::IValue> stack;
  std::vector<TensorArgument> tensors;
  std::vector<Slot> outputs;
};

std::mutex opsMutex;  // workers share the table
std::deque<Op>& ops() {
  static std::deque<Op> all;  // never shrinks: names are read by the engine thread
  return all;
}

const Op& opOf(const Napi::Value& id) {
  const int64_t index = integerOf(id, "op");
  std::lock_guard<std::mutex> lock(opsMutex);
  if (index < 0 || index >= static_cast<int64_t>(ops().size())) throw std::runtime_error("bad op id");
  return ops()[static_cast<size_t>(index)];
}

Napi::Value findOp(const Napi::CallbackInfo& info) {
  static std::unordered_map<std::string, size_t> known;
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "findOp: expected a name such as aten::add.Tensor");
  const std::string full = info[0].As<Napi::String>().Utf8Value();
  std::lock_guard<std::mutex> lock(opsMutex);
  if (auto found = known.find(full); found != known.end()) {
    return Napi::Number::New(info.Env(), static_cast<double>(found->second));
  }
  if (!isOpen(full)) {
    throw std::runtime_error("op " + full + " is not open to JavaScript; native/src/open_ops.cc lists those that are");
  }
  const auto dot = full.find('.');
  const std::string name = full.substr(0, dot);
  const std::string overload = dot == std::string::npos ? "" : full.substr(dot + 1);
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!handle) throw std::runtime_error("no op named " + full);
  Op op{full, *handle, {}, false, {}};
  const auto& schema = handle->schema();
  for (const auto& argument : schema.arguments()) op.types.push_back(argument.real_type());
  for (const auto& result : schema.returns()) {
    op.fresh.push_back(!(result.alias_info() && result.alias_info()->isWrite()));
    if (result.type()->kind() == c10::TypeKind::ListType) op.returnsList = true;
  }
  known[full] = ops().size();
  ops().push_back(std::move(op));
  return Napi::Number::New(info.Env(), static_cast<double>(known[full]));
}

/// Reads (op, arguments, grad) into a call; tensors stay slots.
Call parse(Engine& engine, const Napi::CallbackInfo& info) {
  const Op& op = opOf(info[0]);
  if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), op.name + ": expected an array of arguments");
  const Napi::Array given = info[1].As<Napi::Array>();
  const auto& arguments = op.handle.schema().arguments();
  if (given.Length() > arguments.size()) {
    throw Napi::TypeError::New(info.Env(), op.name + ": takes " + std::to_string(arguments.size()) +
                                               " arguments, got " + std::to_string(given.Length()) + "; its schema is " +
                                               c10::toString(op.handle.schema()));
  }
  Call call{&op, 0, info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value(), {}, {}, {}};
  call.stack.reserve(arguments.size());
  for (size_t i = 0; i < arguments.size(); i++) {
    const Napi::Value value = i < given.Length() ? given.Get(static_cast<uint32_t>(i)) : info.Env().Undefined();
    if (value.IsUndefined() && arguments[i].default_value()) {
      call.stack.push_back(*arguments[i].default_value());
      continue;
    }
    const std::string what = op.name + ": argument '" + arguments[i].name() + "'";
    call.stack.push_back(toIValue(engine, value, op.types[i], what, i, call.tensors));
  }
  return call;
}

void fill(Engine& engine, Call& call) {
  for (const auto& argument : call.tensors) {
    const at::Tensor& tensor = engine.tensor(argument.slot);
    c10::IValue& target = call.stack[argument.position];
    if (argument.element < 0) {
      target = tensor;
    } else {
      target.toList().set(static_cast<size_t>(argument.element), tensor);
    }
  }
}

std::vector<Slot> inputsOf(const Call& call) {
  std::vector<Slot> slots;
  for (const auto& argument : call.tensors) slots.push_back(argument.slot);
  return slots;
}

void execute(Engine& engine, Call& call) {
  fill(engine, call);
  c10::AutoGradMode mode(call.grad);
  call.op->handle.callBoxed(call.stack);
}

void store(Engine& engine, Call& call) {
  size_t next = 0;
  for (size_t i = 0; i < call.op->fresh.size(); i++) {
    if (!call.op->fresh[i]) continue;
    const c10::IValue& result = call.stack[i];
    if (call.op->returnsList) {
      const auto list = result.toTensorVector();
      TORCH_CHECK(list.size() == call.outputs.size(), "returned ", list.size(), " tensors, ", call.outputs.size(),
                  " were expected");
      for (const auto& tensor : list) engine.put(call.outputs[next++], tensor);
    } else {
      TORCH_CHECK(result.isTensor(), "returns a ", result.tagKind(), ", and only tensors are taken");
      engine.put(call.outputs[next++], result.toTensor());
    }
  }
}

/// call(op, arguments, grad, listLength): handles of the new tensors, one per fresh result.
Napi::Value call(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  auto parsed = std::make_shared<Call>(parse(engine, info));
  size_t count = 0;
  for (const bool fresh : parsed->op->fresh) count += fresh ? 1 : 0;
  if (parsed->op->returnsList && count > 0) {
    const int64_t length = integerOf(info[3], parsed->op->name + ": number of results");
    if (length < 0 || length > 1000000) throw std::runtime_error(parsed->op->name + ": bad number of results");
    count = static_cast<size_t>(length);
  }
  Napi::Array handles = Napi::Array::New(info.Env(), count);
  parsed->outputs.reserve(count);
  for (size_t i = 0; i < count; i++) {
    Slot slot;
    handles.Set(static_cast<uint32_t>(i), Napi::Number::New(info.Env(), engine.newHandle(slot)));
    parsed->outputs.push_back(slot);
  }
  engine.enqueue(parsed->op->name.c_str(), inputsOf(*parsed), parsed->outputs, [&engine, parsed] {
    execute(engine, *parsed);
    store(engine, *parsed);
  });
  return handles;
}

}  // namespace

void defineDispatch(Napi::Object& exports) {
  define(exports, "findOp", findOp);
  define(exports, "call", call);
}

}  // namespace slimtune
