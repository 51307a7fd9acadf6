#include "weight_product.h"

#include "quantized_weight.h"

namespace slimtune {
namespace {

constexpr int64_t kBlockElements = 1 << 20;  // 4 MiB in float32: stays in a CPU's cache

/// Calls body(begin, rows) with blocks of a weight's rows in a dtype: on a CPU a converted weight never exists whole,
/// unless that is asked for.
template <typename Body>
void forEachBlock(at::TensorList weight, at::ScalarType dtype, bool whole, const Body& body) {
  const int64_t out = weightRows(weight), in = weightColumns(weight);
  const bool blocks = weight[0].is_cpu() && !whole;
  const int64_t step = blocks ? std::max<int64_t>(64, kBlockElements / std::max<int64_t>(1, in)) : std::max<int64_t>(1, out);
  // A transposed weight (GPT-2's) is converted as it lies: in its columns a copy would jump from row to row.
  const bool turned = weight.size() == 1 && weight[0].stride(0) == 1 && in > 1;
  const auto options = weight[0].options().dtype(dtype);
  const at::Tensor buffer = turned ? at::empty({in, std::min(step, out)}, options).t() : at::empty({std::min(step, out), in}, options);
  for (int64_t begin = 0; begin < out; begin += step) {
    const at::Tensor rows = buffer.narrow(0, 0, std::min(step, out - begin));
    if (weight.size() == 1) {
      rows.copy_(weight[0].narrow(0, begin, rows.size(0)));
    } else {
      dequantizeRows(weight, begin, rows);
    }
    body(begin, rows);
  }
}

}  // namespace

void multiply(at::Tensor& y, const at::Tensor& x, at::TensorList weight, bool add) {
  const auto block = [&](at::Tensor out, const at::Tensor& rows) {
    if (add) {
      out.addmm_(x, rows.t());
    } else {
      at::mm_out(out, x, rows.t());
    }
  };
  if (weight[0].scalar_type() == x.scalar_type()) return block(y, weight[0]);
  forEachBlock(weight, x.scalar_type(), false, [&](int64_t begin, const at::Tensor& rows) {
    block(y.narrow(1, begin, rows.size(0)), rows);
  });
}

void multiplyTransposed(at::Tensor& dx, const at::Tensor& dy, at::TensorList weight, bool add) {
  const auto block = [&](const at::Tensor& columns, const at::Tensor& rows) {
    if (add) {
      dx.addmm_(columns, rows);
    } else {
      at::mm_out(dx, columns, rows);
      add = true;
    }
  };
  if (weightRows(weight) == 0 && !add) dx.zero_();
  if (weight[0].scalar_type() == dy.scalar_type()) return block(dy, weight[0]);
  // The blocks' products are added up in dx: in 16 bits each sum would be rounded, and so the weight is taken whole.
  const bool wide = c10::elementSize(dx.scalar_type()) >= sizeof(float);
  forEachBlock(weight, dy.scalar_type(), !wide, [&](int64_t begin, const at::Tensor& rows) {
    block(dy.narrow(1, begin, rows.size(0)), rows);
  });
}

}  // namespace slimtune
