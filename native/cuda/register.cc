// The kernels as slimtune's ops on CUDA tensors: checks, results, and the stream at hand.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels.h"

namespace slimtune::cuda {
namespace {

Dtype dtypeOf(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return Dtype::f32;
    case at::kBFloat16: return Dtype::bf16;
    case at::kHalf: return Dtype::f16;
    default: TORCH_CHECK(false, "the kernels for CUDA take float32, bfloat16 and float16, not ", x.scalar_type());
  }
}

/// A tensor whose rows are dense, for the length of a call: a copy where it has other gaps than between its rows.
class Dense {
 public:
  explicit Dense(const at::Tensor& x) : tensor_(x.dim() == 0 || x.stride(-1) == 1 || x.size(-1) <= 1 ? x : x.contiguous()) {}
  const at::Tensor& operator*() const { return tensor_; }
  Rows rows() const {
    return {tensor_.data_ptr(), dtypeOf(tensor_), tensor_.dim() > 1 ? tensor_.stride(0) : tensor_.numel()};
  }

 private:
  at::Tensor tensor_;
};

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }

void together(const at::Tensor& x, std::initializer_list<at::Tensor> others) {
  for (const at::Tensor& other : others) TORCH_CHECK(other.device() == x.device(), "tensors on different devices");
}

using MaybeTensor = std::optional<at::Tensor>;

/// What may be missing: rows of it, or none.
class MaybeDense {
 public:
  explicit MaybeDense(const MaybeTensor& x) {
    if (x) dense_.emplace(*x);
  }
  Rows rows() const { return dense_ ? dense_->rows() : Rows{}; }

 private:
  std::optional<Dense> dense_;
};

MaybeTensor to(const MaybeTensor& x, at::ScalarType dtype) { return x ? MaybeTensor(x->to(dtype)) : x; }

void togetherWith(const at::Tensor& x, const MaybeTensor& other) {
  if (other) together(x, {*other});
}

float* meanOf(const at::Tensor& statistics) {
  return statistics.size(0) == 2 ? statistics.data_ptr<float>() + statistics.size(1) : nullptr;
}

std::tuple<at::Tensor, at::Tensor> normForward(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                                               bool centered, double eps, at::ScalarType dtype, const MaybeTensor& residual) {
  together(x, {weight});
  togetherWith(x, bias), togetherWith(x, residual);
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), width = x.size(1);
  const bool alike = !bias || bias->scalar_type() == weight.scalar_type();
  const Dense input(x), scale(alike ? weight : weight.to(at::kFloat));
  const MaybeDense shift(alike ? bias : to(bias, at::kFloat)), added(residual);
  const Dense y(at::empty(x.sizes(), x.options().dtype(residual ? residual->scalar_type() : dtype)));
  at::Tensor statistics = at::empty({centered ? 2 : 1, rows}, x.options().dtype(at::kFloat));
  norm(input.rows(), scale.rows(), shift.rows(), static_cast<float>(eps), rows, width, y.rows(), added.rows(),
       statistics.data_ptr<float>(), meanOf(statistics), stream());
  return {*y, statistics};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> normBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                                            const at::Tensor& statistics, bool weightTrains, bool biasTrains) {
  together(x, {dy, weight, statistics});
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), width = x.size(1);
  const Dense d(dy), input(x), scale(weight), dx(at::empty(x.sizes(), x.options()));
  const float *const inverse = statistics.const_data_ptr<float>(), *const mean = meanOf(statistics);
  cuda::normBackward(d.rows(), input.rows(), scale.rows(), inverse, mean, rows, width, dx.rows(), stream());
  if (!weightTrains && !biasTrains) return {*dx, at::Tensor(), at::Tensor()};
  at::Tensor sums = at::empty({biasTrains ? 2 : 1, (rows + kWeightRows - 1) / kWeightRows, width}, statistics.options());
  normBackwardWeight(d.rows(), input.rows(), inverse, mean, rows, width, sums.data_ptr<float>(),
                     biasTrains ? sums.data_ptr<float>() + sums[0].numel() : nullptr, stream());
  return {*dx, weightTrains ? sums[0].sum(0) : at::Tensor(), biasTrains ? sums[1].sum(0) : at::Tensor()};
}

at::Tensor gateForward(const at::Tensor& gate, const MaybeTensor& up, int64_t activation) {
  togetherWith(gate, up);
  const c10::cuda::CUDAGuard guard(gate.device());
  const Dense g(gate), y(at::empty(gate.sizes(), gate.options()));
  const MaybeDense u(up);
  cuda::gate(static_cast<Activation>(activation), g.rows(), u.rows(), gate.size(0), gate.size(1), y.rows(), stream());
  return *y;
}

std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const MaybeTensor& up,
                                                int64_t activation) {
  together(gate, {dy});
  togetherWith(gate, up);
  const c10::cuda::CUDAGuard guard(gate.device());
  const Dense d(dy.to(gate.scalar_type())), g(gate), dGate(at::empty(gate.sizes(), gate.options()));
  const MaybeTensor dUp = up ? MaybeTensor(at::empty(gate.sizes(), gate.options())) : std::nullopt;
  const MaybeDense u(up), dU(dUp);
  cuda::gateBackward(static_cast<Activation>(activation), d.rows(), g.rows(), u.rows(), gate.size(0), gate.size(1),
                     dGate.rows(), dU.rows(), stream());
  return {*dGate, dUp.value_or(at::Tensor())};
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved, int64_t direction) {
  together(x, {cos, sin});
  const c10::cuda::CUDAGuard guard(x.device());
  const Dense input(x), y(at::empty(x.sizes(), x.options()));
  rope(input.rows(), (*input).stride(1), cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), direction < 0, interleaved,
       x.size(0), x.size(1), x.size(2), cos.size(1), y.rows(), stream());
  return *y;
}

void expBlockCuda(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
                  at::TensorList sums, double cap) {
  together(logits, {targets, statistics});
  const c10::cuda::CUDAGuard guard(logits.device());
  const int64_t rows = logits.size(0);
  float* const most = statistics.data_ptr<float>();
  const at::Tensor factor = at::empty({rows, 1}, statistics.options());
  expBlock(logits.data_ptr<float>(), logits.stride(0), targets.const_data_ptr<int64_t>(), first, rows, logits.size(1),
           static_cast<float>(cap), most, most + rows, most + 2 * rows, factor.data_ptr<float>(), stream());
  for (const at::Tensor& sum : sums) at::Tensor(sum).mul_(factor);
}

void dequantizeRows(at::TensorList weight, int64_t begin, const at::Tensor& out) {
  for (const at::Tensor& part : weight) together(out, {part});
  const c10::cuda::CUDAGuard guard(out.device());
  const auto floats = [&](size_t part) { return part < weight.size() ? weight[part].const_data_ptr<float>() : nullptr; };
  const bool nested = weight.size() == 6;
  const QuantizedWeight parts{weight[0].const_data_ptr(), weight[1].const_data_ptr(), floats(2), nested ? floats(3) : nullptr,
                              nested ? floats(4) : nullptr, nested ? floats(5) : nullptr};
  const auto dequantize = weight.size() == 2 ? dequantize8bit : dequantize4bit;
  if (out.scalar_type() == at::kDouble) {  // of float32 numbers, as on the CPU
    const at::Tensor numbers = at::empty(out.sizes(), out.options().dtype(at::kFloat));
    dequantize(parts, begin, out.size(0), out.size(1), numbers.data_ptr(), Dtype::f32, stream());
    out.copy_(numbers);
  } else {
    dequantize(parts, begin, out.size(0), out.size(1), out.data_ptr(), dtypeOf(out), stream());
  }
}

TORCH_LIBRARY_IMPL(slimtune, CUDA, library) {
  library.impl("_norm_forward", normForward);
  library.impl("_norm_backward", normBackward);
  library.impl("_gate_forward", gateForward);
  library.impl("_gate_backward", gateBackward);
  library.impl("_rotate", rotate);
  library.impl("_exp_block_", expBlockCuda);
  library.impl("_dequantize_rows", dequantizeRows);
}

}  // namespace
}  // namespace slimtune::cuda
