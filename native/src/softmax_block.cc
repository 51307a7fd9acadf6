// slimtune::_exp_block_: one block of classes of a softmax whose classes come block by block.
//
// Each row keeps the biggest logit so far, and its sums are those of exp(logit - biggest): when a bigger one comes, what
// was summed before is scaled down. The target's own term is left out of the sums (its exp is written as 0), so that the
// probability of all other classes is exact where the model is nearly sure.
//
// With a soft cap c the logits are c·tanh(z/c) of the values given, and what is written is exp · d logit/dz: what the
// gradient of z is made of. The sums are of the exponentials alone.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <limits>

#include "vectorised.h"

namespace slimtune {
namespace {

template <typename T>
struct Row {
  T* logits;       // [count], replaced by exp(logit - most)
  int64_t count;
  int64_t target;  // which of them is the target; -1: none
  T cap;           // 0: none
  T most, others, targetLogit;

  /// Returns by what earlier sums are to be multiplied.
  template <bool kCapped>
  SLIMTUNE_INLINE T exponentiate() {
    T biggest = most;
    const T inverse = kCapped ? T(1) / cap : T(0);
    if constexpr (kCapped) {
#pragma omp simd
      for (int64_t i = 0; i < count; i++) logits[i] = cap * vectorTanh(logits[i] * inverse);
    }
#pragma omp simd reduction(max : biggest)
    for (int64_t i = 0; i < count; i++) biggest = logits[i] > biggest ? logits[i] : biggest;
    if (target >= 0) {
      targetLogit = logits[target];
      logits[target] = -std::numeric_limits<T>::infinity();
    }
    double total = 0;  // of short sums: a long one in float32 loses digits
    for (int64_t begin = 0; begin < count; begin += 512) {
      T* const some = logits + begin;
      const int64_t length = std::min<int64_t>(512, count - begin);
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < length; i++) {
        const T e = vectorExp(some[i] - biggest), share = some[i] * inverse;
        some[i] = kCapped ? e * (T(1) - share * share) : e;
        sum += e;
      }
      total += sum;
    }
    if (kCapped && target >= 0) logits[target] = 0;  // 0 · ∞ above
    const T factor = vectorExp(most - biggest);
    others = static_cast<T>(others * factor + total);
    most = biggest;
    return factor;
  }
};

template <bool kCapped, typename T>
SLIMTUNE_VECTORISED T exponentiate(Row<T>& row) {
  return row.template exponentiate<kCapped>();
}

/// logits [R, B]: those of classes first, first + 1, ..., replaced by their exponentials. statistics [3, R]: the biggest
/// logit, the sum over all classes but the target, the target's logit; all updated. sums: each [R, any], rescaled.
template <typename T>
void expBlock(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
              at::TensorList sums, double cap) {
  const int64_t rows = logits.size(0), count = logits.size(1), stride = logits.stride(0);
  T* const data = logits.data_ptr<T>();
  T* const most = statistics.data_ptr<T>();
  const int64_t* const target = targets.const_data_ptr<int64_t>();
  at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, count)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t place = target[r] - first;
      Row<T> row{data + r * stride, count, place >= 0 && place < count ? place : -1, static_cast<T>(cap),
                 most[r], most[rows + r], most[2 * rows + r]};
      const T factor = cap > 0 ? exponentiate<true>(row) : exponentiate<false>(row);
      most[r] = row.most, most[rows + r] = row.others, most[2 * rows + r] = row.targetLogit;
      if (factor == 1) continue;
      for (const at::Tensor& sum : sums) {
        T* const values = sum.data_ptr<T>() + r * sum.size(1);
        for (int64_t i = 0; i < sum.size(1); i++) values[i] *= factor;
      }
    }
  });
}

void expBlockCpu(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
                 at::TensorList sums, double cap) {
  if (logits.scalar_type() == at::kDouble) return expBlock<double>(logits, targets, first, statistics, sums, cap);
  expBlock<float>(logits, targets, first, statistics, sums, cap);
}

/// Of ATen's ops, for devices without a kernel of their own.
void composedExpBlock(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
                      at::TensorList sums, double cap) {
  if (cap > 0) at::Tensor(logits).div_(cap).tanh_().mul_(cap);
  const at::Tensor slope = cap > 0 ? 1 - at::square(logits / cap) : at::Tensor();
  at::Tensor most = statistics[0], others = statistics[1], targetLogit = statistics[2];
  const at::Tensor place = targets - first;
  const at::Tensor here = (place >= 0).logical_and(place < logits.size(1));  // [R]
  const at::Tensor column = place.clamp(0, logits.size(1) - 1).unsqueeze(1);
  const at::Tensor biggest = at::maximum(most, logits.amax({1})), factor = (most - biggest).exp();
  const at::Tensor own = logits.gather(1, column).squeeze(1);
  targetLogit.copy_(at::where(here, own, targetLogit));
  at::Tensor exps = logits;
  exps.sub_(biggest.unsqueeze(1)).exp_();
  exps.scatter_(1, column, at::where(here, at::zeros_like(own), exps.gather(1, column).squeeze(1)).unsqueeze(1));
  others.mul_(factor).add_(exps.sum(1));
  if (cap > 0) exps.mul_(slope);
  most.copy_(biggest);
  for (const at::Tensor& sum : sums) at::Tensor(sum).mul_(factor.unsqueeze(1));
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def(
      "_exp_block_(Tensor(a!) logits, Tensor targets, int first, Tensor(b!) statistics, Tensor(c!)[] sums, float cap) -> ()");
  library.impl("_exp_block_", c10::DispatchKey::CPU, expBlockCpu);
  library.impl("_exp_block_", c10::DispatchKey::CompositeExplicitAutograd, composedExpBlock);
}

}  // namespace
}  // namespace slimtune
