#include "stages.h"

namespace slimtune {
namespace {
at::ScalarType wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }
}  // namespace

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype, at::Tensor& inverseRms) {
  const at::Tensor y = x.to(wide(x));
  inverseRms = at::rsqrt(at::mean(at::square(y), {-1}, true) + eps);
  return (weight.to(wide(x)) * (y * inverseRms)).to(dtype);
}

at::Tensor rmsNormBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverseRms,
                           at::Tensor* dWeight) {
  const at::Tensor y = x.to(wide(x)) * inverseRms;
  const at::Tensor d = dy.to(wide(x));
  if (dWeight) *dWeight = at::sum(d * y, {0}).to(weight.scalar_type());
  const at::Tensor dn = d * weight.to(wide(x));
  return ((dn - y * at::mean(dn * y, {-1}, true)) * inverseRms).to(x.scalar_type());
}

at::Tensor gate(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate) * up; }

std::tuple<at::Tensor, at::Tensor> gateBackward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor activated = at::silu(gate);
  return {at::silu_backward(dy * up, gate), dy * activated};
}

}  // namespace slimtune
