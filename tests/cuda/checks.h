// What the checks that are loaded into the native module's process share: check_compositions.cc says what they are.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

void fail(const std::string& what, const std::string& how);

void same(const std::string& what, const at::Tensor& actual, const at::Tensor& expected, double tolerance = 1e-5);

template <typename Signature>
auto opOf(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// The kernel for CPUs, or composed: what a device without kernels of its own computes.
template <typename Signature, typename... Arguments>
auto call(bool composed, const char* name, Arguments&&... arguments) {
  const auto op = opOf<Signature>(name);
  if (!composed) return op.call(arguments...);
  return op.redispatch(c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), arguments...);
}

void checkStages();

void checkAttention();
