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

std::tuple<at::Tensor, at::Tensor> normForward(const at::Tensor& x, const at::Tensor& weight, double eps,
                                               at::ScalarType dtype) {
  together(x, {weight});
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), width = x.size(1);
  const Dense input(x), scale(weight);
  const Dense y(at::empty(x.sizes(), x.options().dtype(dtype)));
  at::Tensor inverseRms = at::empty({rows}, x.options().dtype(at::kFloat));
  rmsNorm(input.rows(), scale.rows(), static_cast<float>(eps), rows, width, y.rows(), inverseRms.data_ptr<float>(), stream());
  return {*y, inverseRms};
}

std::tuple<at::Tensor, at::Tensor> normBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                                const at::Tensor& inverseRms, bool weightTrains) {
  together(x, {dy, weight, inverseRms});
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), width = x.size(1);
  const Dense d(dy), input(x), scale(weight), dx(at::empty(x.sizes(), x.options()));
  rmsNormBackward(d.rows(), input.rows(), scale.rows(), inverseRms.const_data_ptr<float>(), rows, width, dx.rows(), stream());
  if (!weightTrains) return {*dx, at::Tensor()};
  at::Tensor partial = at::empty({(rows + kWeightRows - 1) / kWeightRows, width}, inverseRms.options());
  rmsNormBackwardWeight(d.rows(), input.rows(), inverseRms.const_data_ptr<float>(), rows, width,
                        partial.data_ptr<float>(), stream());
  return {*dx, partial.sum(0).to(weight.scalar_type())};
}

at::Tensor gateForward(const at::Tensor& gate, const at::Tensor& up) {
  together(gate, {up});
  const c10::cuda::CUDAGuard guard(gate.device());
  const Dense g(gate), u(up), y(at::empty(gate.sizes(), gate.options()));
  swiglu(g.rows(), u.rows(), gate.size(0), gate.size(1), y.rows(), stream());
  return *y;
}

std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  together(gate, {dy, up});
  const c10::cuda::CUDAGuard guard(gate.device());
  const Dense d(dy.to(gate.scalar_type())), g(gate), u(up);
  const Dense dGate(at::empty(gate.sizes(), gate.options())), dUp(at::empty(up.sizes(), up.options()));
  swigluBackward(d.rows(), g.rows(), u.rows(), gate.size(0), gate.size(1), dGate.rows(), dUp.rows(), stream());
  return {*dGate, *dUp};
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t direction) {
  together(x, {cos, sin});
  const c10::cuda::CUDAGuard guard(x.device());
  const Dense input(x), y(at::empty(x.sizes(), x.options()));
  rope(input.rows(), (*input).stride(1), cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), direction < 0,
       x.size(0), x.size(1), x.size(2), y.rows(), stream());
  return *y;
}

void expBlockCuda(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
                  at::TensorList sums) {
  together(logits, {targets, statistics});
  const c10::cuda::CUDAGuard guard(logits.device());
  const int64_t rows = logits.size(0);
  float* const most = statistics.data_ptr<float>();
  const at::Tensor factor = at::empty({rows, 1}, statistics.options());
  expBlock(logits.data_ptr<float>(), logits.stride(0), targets.const_data_ptr<int64_t>(), first, rows, logits.size(1),
           most, most + rows, most + 2 * rows, factor.data_ptr<float>(), stream());
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
  library.impl("_rms_norm_forward", normForward);
  library.impl("_rms_norm_backward", normBackward);
  library.impl("_gate_forward", gateForward);
  library.impl("_gate_backward", gateBackward);
  library.impl("_rotate", rotate);
  library.impl("_exp_block_", expBlockCuda);
  library.impl("_dequantize_rows", dequantizeRows);
}

}  // namespace
}  // namespace slimtune::cuda
