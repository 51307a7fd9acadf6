#include "gate.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "activations.h"

namespace slimtune {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements that are worth a thread
constexpr const char* kNames[] = {"silu", "gelu", "gelu_tanh", "relu2", "relu"};  // in the order of Activation

using MaybeTensor = std::optional<at::Tensor>;

template <class Formula, typename T>
SLIMTUNE_VECTORISED void gateSpan(const T* gate, const T* up, T* y, int64_t count) {
  if (up == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = Formula::value(gate[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = Formula::value(gate[i]) * up[i];
  }
}

template <class Formula, typename T>
SLIMTUNE_VECTORISED void gateSpanBackward(const T* dy, const T* gate, const T* up, T* dGate, T* dUp, int64_t count) {
  if (up == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
      T slope;
      Formula::withSlope(gate[i], slope);
      dGate[i] = dy[i] * slope;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
      T slope;
      const T value = Formula::withSlope(gate[i], slope);
      dGate[i] = dy[i] * up[i] * slope;
      dUp[i] = dy[i] * value;
    }
  }
}

/// Rows of a matrix in the arithmetic's dtype, of which each is dense: gate and up may be halves of one matrix.
template <typename T>
struct Rows {
  at::Tensor held;
  const T* data = nullptr;
  int64_t stride = 0;
  explicit Rows(const MaybeTensor& x) {
    if (!x) return;
    held = x->to(c10::CppTypeToScalarType<T>::value);
    if (held.stride(1) != 1) held = held.contiguous();
    data = held.template const_data_ptr<T>();
    stride = held.stride(0);
  }
  bool dense(int64_t width) const { return data == nullptr || stride == width; }
  const T* at(int64_t row, int64_t column) const { return data == nullptr ? nullptr : data + row * stride + column; }
};

/// Calls body(row, column, count) for spans of a matrix whose elements lie together, on all threads.
template <typename Body>
void eachSpan(int64_t rows, int64_t width, bool dense, const Body& body) {
  const int64_t length = dense ? rows * width : width;  // one long row where there are no gaps
  at::parallel_for(0, rows * width, kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t count = std::min(length - begin % length, end - begin);
      body(begin / length, begin % length, count);
      begin += count;
    }
  });
}

/// Calls body(zero of the dtype, a formula) with types.
template <typename Body>
void specialised(at::ScalarType dtype, int64_t activation, const Body& body) {
  const auto ofType = [&](auto zero) {
    switch (static_cast<Activation>(activation)) {
      case Activation::silu: return body(zero, Silu{});
      case Activation::gelu: return body(zero, Gelu{});
      case Activation::geluTanh: return body(zero, GeluTanh{});
      case Activation::relu2: return body(zero, SquaredRelu{});
      case Activation::relu: return body(zero, Relu{});
    }
  };
  dtype == at::kDouble ? ofType(double{}) : ofType(float{});
}

at::Tensor forwardCpu(const at::Tensor& gate, const MaybeTensor& up, int64_t activation) {
  const int64_t rows = gate.size(0), width = gate.size(1);
  at::Tensor y;
  specialised(gate.scalar_type(), activation, [&](auto zero, auto formula) {
    using T = decltype(zero);
    const Rows<T> g(gate), u(up);
    y = at::empty(gate.sizes(), g.held.options());
    eachSpan(rows, width, g.dense(width) && u.dense(width), [&](int64_t row, int64_t column, int64_t count) {
      gateSpan<decltype(formula)>(g.at(row, column), u.at(row, column), y.mutable_data_ptr<T>() + row * width + column, count);
    });
  });
  return y.to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> backwardCpu(const at::Tensor& dy, const at::Tensor& gate, const MaybeTensor& up,
                                               int64_t activation) {
  const int64_t rows = gate.size(0), width = gate.size(1);
  at::Tensor dGate, dUp;
  specialised(gate.scalar_type(), activation, [&](auto zero, auto formula) {
    using T = decltype(zero);
    const Rows<T> d(dy), g(gate), u(up);
    dGate = at::empty(gate.sizes(), g.held.options());
    if (up) dUp = at::empty(gate.sizes(), g.held.options());
    const bool dense = d.dense(width) && g.dense(width) && u.dense(width);
    eachSpan(rows, width, dense, [&](int64_t row, int64_t column, int64_t count) {
      const int64_t place = row * width + column;
      gateSpanBackward<decltype(formula)>(d.at(row, column), g.at(row, column), u.at(row, column),
                                          dGate.mutable_data_ptr<T>() + place, up ? dUp.mutable_data_ptr<T>() + place : nullptr,
                                          count);
    });
  });
  return {dGate.to(gate.scalar_type()), up ? dUp.to(gate.scalar_type()) : dUp};
}

// The same of ATen's ops, for devices without kernels of their own.

at::Tensor composedForward(const at::Tensor& gate, const MaybeTensor& up, int64_t activation) {
  const at::Tensor y = [&] {
    switch (static_cast<Activation>(activation)) {
      case Activation::silu: return at::silu(gate);
      case Activation::gelu: return at::gelu(gate);
      case Activation::geluTanh: return at::gelu(gate, "tanh");
      case Activation::relu2: return at::square(at::relu(gate));
      case Activation::relu: return at::relu(gate);
    }
    return at::Tensor();
  }();
  return up ? y * *up : y;
}

std::tuple<at::Tensor, at::Tensor> composedBackward(const at::Tensor& dy, const at::Tensor& gate, const MaybeTensor& up,
                                                    int64_t activation) {
  const at::Tensor d = up ? dy * *up : dy;
  const at::Tensor dGate = [&] {
    switch (static_cast<Activation>(activation)) {
      case Activation::silu: return at::silu_backward(d, gate);
      case Activation::gelu: return at::gelu_backward(d, gate);
      case Activation::geluTanh: return at::gelu_backward(d, gate, "tanh");
      case Activation::relu2: return d * at::relu(gate) * 2;
      case Activation::relu: return at::threshold_backward(d, gate, 0);
    }
    return at::Tensor();
  }();
  return {dGate, up ? dy * composedForward(gate, {}, activation) : at::Tensor()};
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("_gate_forward(Tensor gate, Tensor? up, int activation) -> Tensor");
  library.def("_gate_backward(Tensor dy, Tensor gate, Tensor? up, int activation) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  library.impl("_gate_forward", forwardCpu);
  library.impl("_gate_backward", backwardCpu);
}
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) {
  library.impl("_gate_forward", composedForward);
  library.impl("_gate_backward", composedBackward);
}

template <typename Signature>
auto opNamed(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

MaybeTensor maybe(const at::Tensor& x) { return x.defined() ? MaybeTensor(x) : std::nullopt; }

}  // namespace

Activation activationOf(c10::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  TORCH_CHECK(found != std::end(kNames), "an activation is silu, gelu, gelu_tanh, relu2 or relu, not '", name, "'");
  return static_cast<Activation>(found - std::begin(kNames));
}

at::Tensor gateRows(Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = opNamed<decltype(forwardCpu)>("slimtune::_gate_forward");
  return op.call(gate, maybe(up), static_cast<int64_t>(activation));
}

std::tuple<at::Tensor, at::Tensor> gateBackward(Activation activation, const at::Tensor& dy, const at::Tensor& gate,
                                                const at::Tensor& up) {
  static const auto op = opNamed<decltype(backwardCpu)>("slimtune::_gate_backward");
  return op.call(dy, gate, maybe(up), static_cast<int64_t>(activation));
}

}  // namespace slimtune
