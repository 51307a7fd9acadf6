#include "weight_product.h"

namespace slimtune {
namespace {

constexpr int64_t kBlockElements = 1 << 20;  // 4 MiB in float32: stays in the cache

/// Rows of a weight that are converted at a time: a converted weight never exists whole.
int64_t blockRows(const at::Tensor& weight) {
  return std::max<int64_t>(64, kBlockElements / std::max<int64_t>(1, weight.size(1)));
}

}  // namespace

void multiply(at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, bool add) {
  const auto block = [&](at::Tensor out, const at::Tensor& rows) {
    if (add) {
      out.addmm_(x, rows.t());
    } else {
      at::mm_out(out, x, rows.t());
    }
  };
  if (weight.scalar_type() == x.scalar_type()) return block(y, weight);
  const int64_t step = blockRows(weight);
  for (int64_t begin = 0; begin < weight.size(0); begin += step) {
    const int64_t length = std::min(step, weight.size(0) - begin);
    block(y.narrow(1, begin, length), weight.narrow(0, begin, length).to(x.scalar_type()));
  }
}

void multiplyTransposed(at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool add) {
  if (weight.scalar_type() == dy.scalar_type()) {
    if (add) {
      dx.addmm_(dy, weight);
    } else {
      at::mm_out(dx, dy, weight);
    }
    return;
  }
  if (!add) dx.zero_();
  const int64_t step = blockRows(weight);
  for (int64_t begin = 0; begin < weight.size(0); begin += step) {
    const int64_t length = std::min(step, weight.size(0) - begin);
    dx.addmm_(dy.narrow(1, begin, length), weight.narrow(0, begin, length).to(dy.scalar_type()));
  }
}

}  // namespace slimtune
