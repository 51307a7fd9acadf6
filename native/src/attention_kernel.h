// Causal attention of one piece of a packed batch on the CPU: the part of packed_attention.cc that is compiled for
// several instruction sets.
#pragma once

#include <ATen/OpMathType.h>
#include <cstdint>

namespace slimtune {

/// The queries at positions [begin, end) of one sequence, of all heads that share one key head, against the keys
/// [first, end): all that any of them sees. Pieces are independent but for dk and dv, of which each has a partial sum of
/// its own.
struct AttentionPiece {
  int64_t start;              // token where the sequence begins
  int64_t first, begin, end;  // positions in the sequence
  int64_t kvHead;
  int64_t partial;  // where in `partials` this piece's dk [keys, D], then dv [keys, D] lie, in elements

  int64_t keys() const { return end - first; }
  int64_t work() const { return (end - begin) * (begin + end - 2 * first); }
};

template <typename Scalar>
struct AttentionArguments {
  using Wide = at::opmath_type<Scalar>;  // the arithmetic's dtype

  int64_t heads, kvHeads, dim;
  int64_t window;  // keys that a query sees at most, itself among them; at least the longest sequence where all are seen
  Wide scale;      // of the scores
  Wide softcap;    // c > 0: scores become c·tanh(scores / c)
  int64_t qRow, qHead, kRow, kHead, vRow, vHead;  // strides; that of D is 1
  const Scalar *q, *k, *v;                        // [N, heads, D], [N, kv heads, D] twice
  Scalar* out;                                    // [N, heads, D]
  Wide* logSumExp;                                // [N, heads]
  // The backward pass reads out and logSumExp, and these:
  const Scalar* dOut;  // [N, heads, D]
  Scalar* dq;          // [N, heads, D]
  Wide* partials;
};

/// Elements of scratch memory that a piece with `keys` keys needs in either pass.
int64_t attentionScratch(int64_t keys, int64_t window, int64_t dim, int64_t elementBytes);

/// Writes the piece's rows of `out` and `logSumExp`.
void attend(const AttentionArguments<float>&, const AttentionPiece&, float* scratch);
void attend(const AttentionArguments<double>&, const AttentionPiece&, double* scratch);
void attend(const AttentionArguments<at::BFloat16>&, const AttentionPiece&, float* scratch);
void attend(const AttentionArguments<at::Half>&, const AttentionPiece&, float* scratch);

/// Writes the piece's rows of `dq`, and its dk and dv into `partials`. The scores are computed again.
void attendBackward(const AttentionArguments<float>&, const AttentionPiece&, float* scratch);
void attendBackward(const AttentionArguments<double>&, const AttentionPiece&, double* scratch);
void attendBackward(const AttentionArguments<at::BFloat16>&, const AttentionPiece&, float* scratch);
void attendBackward(const AttentionArguments<at::Half>&, const AttentionPiece&, float* scratch);

}  // namespace slimtune
