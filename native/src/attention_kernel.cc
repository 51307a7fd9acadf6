#include "attention_kernel.h"

#include <cmath>
#include <limits>

#include "small_gemm.h"
#include "vectorised.h"

namespace slimtune {
namespace {

// Rows of a block of scores: the query heads of each position lie together, so that a tile of rows crosses the causal
// diagonal at one place. A block's scores stay in the second-level cache.
constexpr int64_t kMostRows = 16 * kTileRows;
constexpr int64_t kBlockScores = 1 << 15;

int64_t scoreStride(int64_t keys, int64_t panel) { return roundUp(keys, panel) + panel; }

int64_t blockRows(int64_t keys) {
  return std::clamp(kBlockScores / keys / kTileRows * kTileRows, 4 * kTileRows, kMostRows);
}

/// The widened, padded copies that the products read; D is padded with zeros to whole panels.
template <typename Wide>
struct Workspace {
  static constexpr int64_t panel = kPanel<Wide>;
  int64_t width;   // padded D
  int64_t stride;  // of the rows of scores
  int64_t rows;    // of a block
  Wide *keys, *values;                  // [keys, width]
  Wide *keyPanels, *valuePanels;        // [keys / panel, D, panel]: their transposes
  Wide *scores, *dScores;               // [rows, stride]
  Wide *queries, *outputs, *dOutputs;   // [rows, width]
  Wide *dKeys, *dValues;                // [keys, width], and room for a tile that ends behind them
  int64_t size;

  Workspace(int64_t keyCount, int64_t window, int64_t dim, Wide* memory) : width(roundUp(dim, panel)) {
    // A block sees the window of its first row and a key more for each position; it begins at a panel.
    const int64_t span = std::min(keyCount, window + kMostRows + panel);
    stride = scoreStride(span, panel);
    rows = blockRows(span);
    Wide* next = memory;
    const auto take = [&next](int64_t count) {
      Wide* const taken = next;
      next += roundUp(count, panel);
      return taken;
    };
    keys = take(keyCount * width);
    values = take(keyCount * width);
    keyPanels = take(roundUp(keyCount, panel) * dim);
    valuePanels = take(roundUp(keyCount, panel) * dim);
    scores = take(rows * stride);
    dScores = take(rows * stride);
    queries = take(rows * width);
    outputs = take(rows * width);
    dOutputs = take(rows * width);
    dKeys = take((keyCount + kTileRows - 1) * width);
    dValues = take((keyCount + kTileRows - 1) * width);
    size = next - memory;
  }
};

template <typename Scalar, typename Wide>
SLIMTUNE_INLINE void widenRow(const Scalar* from, int64_t dim, int64_t width, Wide factor, Wide* to) {
#pragma omp simd
  for (int64_t d = 0; d < dim; d++) to[d] = static_cast<Wide>(from[d]) * factor;
  for (int64_t d = dim; d < width; d++) to[d] = 0;
}

template <typename Scalar, typename Wide>
SLIMTUNE_INLINE void narrowRow(const Wide* from, int64_t dim, Wide factor, Scalar* to) {
#pragma omp simd
  for (int64_t d = 0; d < dim; d++) to[d] = static_cast<Scalar>(from[d] * factor);
}

/// Rows of D elements, `row` apart -> transposed panels; keys beyond the last are zeros.
template <typename Scalar, typename Wide>
SLIMTUNE_INLINE void transpose(const Scalar* from, int64_t row, int64_t keys, int64_t dim, Wide* panels) {
  constexpr int64_t panel = kPanel<Wide>;
  for (int64_t key = 0; key < roundUp(keys, panel); key++) {
    Wide* const to = panels + key / panel * dim * panel + key % panel;
    if (key < keys) {
      for (int64_t d = 0; d < dim; d++) to[d * panel] = static_cast<Wide>(from[key * row + d]);
    } else {
      for (int64_t d = 0; d < dim; d++) to[d * panel] = 0;
    }
  }
}

/// c·tanh(s / c) in place.
template <typename Wide>
SLIMTUNE_INLINE void capScores(Wide* s, int64_t count, Wide c) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) s[i] = c * vectorTanh(s[i] / c);
}

/// A block of rows of a piece. Row r is query head r % group at position begin + r / group. Its scores begin at key `from`
/// of the piece, and what a row or tile sees is counted from there.
template <typename Scalar>
struct Block {
  using Wide = at::opmath_type<Scalar>;
  static constexpr int64_t panel = kPanel<Wide>;

  const AttentionArguments<Scalar>& arguments;
  const AttentionPiece& piece;
  const Workspace<Wide>& space;
  int64_t group;
  int64_t first = 0;  // row of the piece
  int64_t count = 0;  // of rows
  int64_t tiles = 0;
  int64_t from = 0;                               // a multiple of the panel
  int64_t tileBegin[kMostRows / kTileRows] = {};  // keys that any row of a tile sees
  int64_t tileEnd[kMostRows / kTileRows] = {};

  SLIMTUNE_INLINE int64_t token(int64_t row) const { return piece.start + piece.begin + (first + row) / group; }
  SLIMTUNE_INLINE int64_t head(int64_t row) const { return piece.kvHead * group + (first + row) % group; }
  /// Keys that a row sees: [begin, end).
  SLIMTUNE_INLINE int64_t end(int64_t row) const { return piece.begin - piece.first + (first + row) / group + 1 - from; }
  SLIMTUNE_INLINE int64_t begin(int64_t row) const { return std::max(int64_t(0), end(row) - arguments.window); }
  /// Where in [N, heads] a row stands.
  SLIMTUNE_INLINE int64_t place(int64_t row) const { return token(row) * arguments.heads + head(row); }

  SLIMTUNE_INLINE void moveTo(int64_t row) {
    first = row;
    count = std::min(space.rows, (piece.end - piece.begin) * group - first);
    tiles = (count + kTileRows - 1) / kTileRows;
    from = 0;
    from = begin(0) / panel * panel;
    for (int64_t t = 0; t < tiles; t++) {
      tileBegin[t] = begin(t * kTileRows);
      tileEnd[t] = end(std::min((t + 1) * kTileRows, count) - 1);
    }
  }

  /// Scaled queries, with rows of zeros up to whole tiles.
  SLIMTUNE_INLINE void loadQueries(Wide scale) const {
    for (int64_t r = 0; r < count; r++) {
      const Scalar* const from = arguments.q + token(r) * arguments.qRow + head(r) * arguments.qHead;
      widenRow(from, arguments.dim, space.width, scale, space.queries + r * space.width);
    }
    std::fill(space.queries + count * space.width, space.queries + tiles * kTileRows * space.width, Wide(0));
  }

  /// left [rows, D] · rightᵀ [D, keys] -> to [rows, stride], as far as the tiles see
  SLIMTUNE_INLINE void multiplyKeys(const Wide* left, const Wide* panels, Wide* to) const {
    const int64_t dim = arguments.dim;
    for (int64_t key = 0; key < tileEnd[tiles - 1]; key += panel) {
      for (int64_t t = 0; t < tiles; t++) {
        if (tileEnd[t] <= key || tileBegin[t] >= key + panel) continue;
        multiplyTile<false>(left + t * kTileRows * space.width, space.width, 1, panels + (from + key) * dim, panel, dim,
                            to + t * kTileRows * space.stride + key, space.stride);
      }
    }
  }

  /// left [rows, keys] · right [keys, D] -> to [rows, D]
  SLIMTUNE_INLINE void mixKeys(const Wide* left, const Wide* right, Wide* to) const {
    for (int64_t d = 0; d < space.width; d += panel) {
      for (int64_t t = 0; t < tiles; t++) {
        const int64_t key = tileBegin[t];
        multiplyTile<false>(left + t * kTileRows * space.stride + key, space.stride, 1,
                            right + (from + key) * space.width + d, space.width, tileEnd[t] - key,
                            to + t * kTileRows * space.width + d, space.width);
      }
    }
  }

  /// leftᵀ [keys, rows] · right [rows, D], added to `to` [keys, D]; only the rows that may see a key
  SLIMTUNE_INLINE void addToKeys(const Wide* left, const Wide* right, Wide* to) const {
    for (int64_t d = 0; d < space.width; d += panel) {
      for (int64_t key = tileBegin[0]; key < tileEnd[tiles - 1]; key += kTileRows) {
        // The positions from that of the tile's first key to the last that sees its last key.
        const int64_t position = piece.first + from + key - piece.begin;
        const int64_t row = std::max<int64_t>(0, position * group - first);
        const int64_t rowEnd = std::min(count, (position + kTileRows - 1 + arguments.window) * group - first);
        multiplyTile<true>(left + row * space.stride + key, 1, space.stride, right + row * space.width + d, space.width,
                           rowEnd - row, to + (from + key) * space.width + d, space.width);
      }
    }
  }

  /// Zeros where a row's tile sees keys that the row does not, or where a tile of keys does.
  SLIMTUNE_INLINE void clearUnseen(Wide* row, int64_t r) const {
    const int64_t tile = r / kTileRows;
    std::fill(row + std::max(int64_t(0), tileBegin[tile] - kTileRows + 1), row + begin(r), Wide(0));
    std::fill(row + end(r), row + tileEnd[tile] + kTileRows - 1, Wide(0));
  }
};

template <typename Scalar>
SLIMTUNE_INLINE void loadKeys(const AttentionArguments<Scalar>& a, const AttentionPiece& piece, bool backward,
                              const Workspace<at::opmath_type<Scalar>>& space) {
  using Wide = at::opmath_type<Scalar>;
  const int64_t start = piece.start + piece.first, keys = piece.keys();
  const Scalar* const k = a.k + start * a.kRow + piece.kvHead * a.kHead;
  const Scalar* const v = a.v + start * a.vRow + piece.kvHead * a.vHead;
  transpose(k, a.kRow, keys, a.dim, space.keyPanels);
  if (backward) transpose(v, a.vRow, keys, a.dim, space.valuePanels);
  for (int64_t key = 0; key < keys; key++) {
    if (backward) {
      widenRow(k + key * a.kRow, a.dim, space.width, Wide(1), space.keys + key * space.width);
    } else {
      widenRow(v + key * a.vRow, a.dim, space.width, Wide(1), space.values + key * space.width);
    }
  }
}

template <typename Scalar>
SLIMTUNE_INLINE void forwardPiece(const AttentionArguments<Scalar>& a, const AttentionPiece& piece,
                                  at::opmath_type<Scalar>* scratch) {
  using Wide = at::opmath_type<Scalar>;
  const Workspace<Wide> space(piece.keys(), a.window, a.dim, scratch);
  loadKeys(a, piece, false, space);
  Block<Scalar> block{a, piece, space, a.heads / a.kvHeads};
  const int64_t rows = (piece.end - piece.begin) * block.group;
  for (int64_t first = 0; first < rows; first += space.rows) {
    block.moveTo(first);
    block.loadQueries(a.scale);
    block.multiplyKeys(space.queries, space.keyPanels, space.scores);
    Wide sums[kMostRows];
    for (int64_t r = 0; r < block.count; r++) {
      Wide* const s = space.scores + r * space.stride;
      const int64_t begin = block.begin(r), end = block.end(r);
      if (a.softcap > 0) capScores(s + begin, end - begin, a.softcap);
      Wide most = -std::numeric_limits<Wide>::infinity(), sum = 0;
#pragma omp simd reduction(max : most)
      for (int64_t i = begin; i < end; i++) most = s[i] > most ? s[i] : most;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; i++) sum += s[i] = vectorExp(s[i] - most);
      block.clearUnseen(s, r);
      sums[r] = sum;
      a.logSumExp[block.place(r)] = most + std::log(sum);
    }
    block.mixKeys(space.scores, space.values, space.outputs);
    for (int64_t r = 0; r < block.count; r++)
      narrowRow(space.outputs + r * space.width, a.dim, 1 / sums[r], a.out + block.place(r) * a.dim);
  }
}

template <typename Scalar>
SLIMTUNE_INLINE void backwardPiece(const AttentionArguments<Scalar>& a, const AttentionPiece& piece,
                                   at::opmath_type<Scalar>* scratch) {
  using Wide = at::opmath_type<Scalar>;
  const Workspace<Wide> space(piece.keys(), a.window, a.dim, scratch);
  loadKeys(a, piece, true, space);
  std::fill(space.dKeys, space.dKeys + piece.keys() * space.width, Wide(0));
  std::fill(space.dValues, space.dValues + piece.keys() * space.width, Wide(0));
  Block<Scalar> block{a, piece, space, a.heads / a.kvHeads};
  const int64_t rows = (piece.end - piece.begin) * block.group;
  for (int64_t first = 0; first < rows; first += space.rows) {
    block.moveTo(first);
    block.loadQueries(a.scale);
    for (int64_t r = 0; r < block.count; r++)
      widenRow(a.dOut + block.place(r) * a.dim, a.dim, space.width, Wide(1), space.dOutputs + r * space.width);
    std::fill(space.dOutputs + block.count * space.width, space.dOutputs + block.tiles * kTileRows * space.width, Wide(0));
    block.multiplyKeys(space.queries, space.keyPanels, space.scores);
    block.multiplyKeys(space.dOutputs, space.valuePanels, space.dScores);
    for (int64_t r = 0; r < block.count; r++) {
      const int64_t place = block.place(r), begin = block.begin(r), end = block.end(r);
      const Scalar* const out = a.out + place * a.dim;
      const Wide* const dOut = space.dOutputs + r * space.width;
      Wide* const s = space.scores + r * space.stride;
      Wide* const ds = space.dScores + r * space.stride;
      const Wide logSumExp = a.logSumExp[place];
      Wide delta = 0;  // Σ p·dp over the keys = Σ o·do over D
#pragma omp simd reduction(+ : delta)
      for (int64_t d = 0; d < a.dim; d++) delta += static_cast<Wide>(out[d]) * dOut[d];
      if (a.softcap > 0) {
        capScores(s + begin, end - begin, a.softcap);
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
          const Wide p = vectorExp(s[i] - logSumExp), tanh = s[i] / a.softcap;
          s[i] = p;
          ds[i] = p * (ds[i] - delta) * (1 - tanh * tanh);
        }
      } else {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
          const Wide p = vectorExp(s[i] - logSumExp);
          s[i] = p;
          ds[i] = p * (ds[i] - delta);
        }
      }
      block.clearUnseen(s, r);
      block.clearUnseen(ds, r);
    }
    block.addToKeys(space.scores, space.dOutputs, space.dValues);
    block.addToKeys(space.dScores, space.queries, space.dKeys);
    block.mixKeys(space.dScores, space.keys, space.outputs);
    for (int64_t r = 0; r < block.count; r++)
      narrowRow(space.outputs + r * space.width, a.dim, a.scale, a.dq + block.place(r) * a.dim);
  }
  Wide* const dk = a.partials + piece.partial;
  for (int64_t key = 0; key < piece.keys(); key++) {
    narrowRow(space.dKeys + key * space.width, a.dim, Wide(1), dk + key * a.dim);
    narrowRow(space.dValues + key * space.width, a.dim, Wide(1), dk + (piece.keys() + key) * a.dim);
  }
}

}  // namespace

int64_t attentionScratch(int64_t keys, int64_t window, int64_t dim, int64_t elementBytes) {
  if (elementBytes == 8) return Workspace<double>(keys, window, dim, nullptr).size;
  return Workspace<float>(keys, window, dim, nullptr).size;
}

SLIMTUNE_VECTORISED void attend(const AttentionArguments<float>& a, const AttentionPiece& piece, float* scratch) {
  forwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attend(const AttentionArguments<double>& a, const AttentionPiece& piece, double* scratch) {
  forwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attend(const AttentionArguments<at::BFloat16>& a, const AttentionPiece& piece, float* scratch) {
  forwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attend(const AttentionArguments<at::Half>& a, const AttentionPiece& piece, float* scratch) {
  forwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attendBackward(const AttentionArguments<float>& a, const AttentionPiece& piece, float* scratch) {
  backwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attendBackward(const AttentionArguments<double>& a, const AttentionPiece& piece,
                                        double* scratch) {
  backwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attendBackward(const AttentionArguments<at::BFloat16>& a, const AttentionPiece& piece,
                                        float* scratch) {
  backwardPiece(a, piece, scratch);
}
SLIMTUNE_VECTORISED void attendBackward(const AttentionArguments<at::Half>& a, const AttentionPiece& piece,
                                        float* scratch) {
  backwardPiece(a, piece, scratch);
}

}  // namespace slimtune
