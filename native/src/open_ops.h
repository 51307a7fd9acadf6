// The ops that JavaScript may call: those that slimtune uses, and some more that the bridge's tests use.
//
// Any op of LibTorch could be called by its schema, but many trust their caller: random arguments crash aten::linspace.out,
// aten::lstm.data, aten::range.step and dozens more. An op is opened by a line in open_ops.cc, and is fuzzed from then on.
#pragma once

#include <string_view>

namespace slimtune {

/// By full name: "aten::add.Tensor".
bool isOpen(std::string_view name);

}  // namespace slimtune
