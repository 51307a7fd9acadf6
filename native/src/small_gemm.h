// Matrix products of a few hundred rows, for the inside of a kernel that is itself parallel and blocked: no packing of
// A, no call overhead, any part of a triangle. At these sizes as fast as a BLAS, and the same on every platform.
#pragma once

#include "vectorised.h"

namespace slimtune {

constexpr int64_t kTileRows = 6;                                // with two vectors of columns: 12 of AVX2's 16 registers
template <typename T> constexpr int64_t kPanel = 64 / sizeof(T);  // columns of a tile

inline int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(32), aligned(alignof(T)), may_alias));
};

/// C [6, panel] = (or, when `add`, +=) A [6, K] · B [K, panel]. A's rows lie `aRow` elements apart and its columns
/// `aColumn`; B's and C's rows `ldb` and `ldc`.
template <bool add, typename T>
SLIMTUNE_INLINE void multiplyTile(const T* a, int64_t aRow, int64_t aColumn, const T* b, int64_t ldb, int64_t K, T* c,
                                  int64_t ldc) {
  using Vector = typename VectorOf<T>::Type;
  constexpr int64_t width = 32 / sizeof(T);
  Vector left[kTileRows] = {}, right[kTileRows] = {};
  for (int64_t k = 0; k < K; k++) {
    const Vector bLeft = *reinterpret_cast<const Vector*>(b + k * ldb);
    const Vector bRight = *reinterpret_cast<const Vector*>(b + k * ldb + width);
#pragma GCC unroll 6
    for (int64_t i = 0; i < kTileRows; i++) {
      const T x = a[i * aRow + k * aColumn];
      left[i] += x * bLeft;
      right[i] += x * bRight;
    }
  }
#pragma GCC unroll 6
  for (int64_t i = 0; i < kTileRows; i++) {
    Vector* out = reinterpret_cast<Vector*>(c + i * ldc);
    out[0] = add ? out[0] + left[i] : left[i];
    out[1] = add ? out[1] + right[i] : right[i];
  }
}

}  // namespace slimtune
