#include "weight_product.h"

namespace slimtune {
namespace {

constexpr int64_t kBlockElements = 1 << 20;  // 4 MiB in float32: stays in the cache

/// Calls body(begin, rows) with blocks of a weight's rows converted to a dtype: a converted weight never exists whole.
template <typename Body>
void forEachBlock(const at::Tensor& weight, at::ScalarType dtype, const Body& body) {
  const int64_t step = std::max<int64_t>(64, kBlockElements / std::max<int64_t>(1, weight.size(1)));
  at::Tensor buffer = at::empty({std::min(step, weight.size(0)), weight.size(1)}, weight.options().dtype(dtype));
  for (int64_t begin = 0; begin < weight.size(0); begin += step) {
    const int64_t length = std::min(step, weight.size(0) - begin);
    body(begin, buffer.narrow(0, 0, length).copy_(weight.narrow(0, begin, length)));
  }
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
  forEachBlock(weight, x.scalar_type(), [&](int64_t begin, const at::Tensor& rows) {
    block(y.narrow(1, begin, rows.size(0)), rows);
  });
}

void multiplyTransposed(at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool add) {
  const auto block = [&](const at::Tensor& columns, const at::Tensor& rows) {
    if (add) {
      dx.addmm_(columns, rows);
    } else {
      at::mm_out(dx, columns, rows);
      add = true;
    }
  };
  if (weight.size(0) == 0 && !add) dx.zero_();
  if (weight.scalar_type() == dy.scalar_type()) return block(dy, weight);
  forEachBlock(weight, dy.scalar_type(), [&](int64_t begin, const at::Tensor& rows) {
    block(dy.narrow(1, begin, rows.size(0)), rows);
  });
}

}  // namespace slimtune
