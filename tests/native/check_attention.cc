// The attention kernel by itself, with every product counted and its scratch memory no larger than it asked for, so that the
// sanitizer sees a step beyond.
#define SLIMTUNE_VECTORISED
#include "small_gemm.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

namespace slimtune {

int64_t multiplications = 0;

template <bool add, typename T>
void countedTile(const T* a, int64_t aRow, int64_t aColumn, const T* b, int64_t ldb, int64_t K, T* c, int64_t ldc) {
  multiplications += kTileRows * kPanel<T> * K;
  multiplyTile<add>(a, aRow, aColumn, b, ldb, K, c, ldc);
}

}  // namespace slimtune

#define multiplyTile countedTile
#include "attention_kernel.cc"

namespace {

using slimtune::AttentionArguments;
using slimtune::AttentionPiece;

void expect(bool holds, const char* what, double value) {
  if (holds) return;
  std::printf("%s: %g\n", what, value);
  std::exit(1);
}

std::vector<float> numbers(int64_t count) {
  static std::mt19937 random(1);
  std::vector<float> values(count);
  for (float& value : values) value = std::normal_distribution<float>()(random);
  return values;
}

/// Multiplications of the forward and the backward pass over the queries [begin, end) of one key head.
struct Cost {
  double forward, backward;
};
Cost costOf(int64_t begin, int64_t end, int64_t window, int64_t group, int64_t dim, float softcap) {
  const AttentionPiece piece{0, std::max<int64_t>(0, begin - window + 1), begin, end, 0, 0};
  const auto q = numbers(end * group * dim), dOut = numbers(end * group * dim);
  const auto k = numbers(end * dim), v = numbers(end * dim);
  std::vector<float> out(q.size()), dq(q.size()), logSumExp(end * group), partials(2 * piece.keys() * dim);
  AttentionArguments<float> a{};
  a.heads = group, a.kvHeads = 1, a.dim = dim, a.window = window, a.scale = 1, a.softcap = softcap;
  a.qRow = group * dim, a.qHead = dim, a.kRow = a.vRow = a.kHead = a.vHead = dim;
  a.q = q.data(), a.k = k.data(), a.v = v.data(), a.dOut = dOut.data();
  a.out = out.data(), a.logSumExp = logSumExp.data(), a.dq = dq.data(), a.partials = partials.data();
  // Memory of malloc's, whose end the sanitizer knows to the byte.
  const std::unique_ptr<float[]> scratch(new float[slimtune::attentionScratch(piece.keys(), window, dim, sizeof(float))]);
  Cost cost{};
  slimtune::multiplications = 0;
  slimtune::attend(a, piece, scratch.get());
  cost.forward = static_cast<double>(slimtune::multiplications);
  slimtune::multiplications = 0;
  slimtune::attendBackward(a, piece, scratch.get());
  cost.backward = static_cast<double>(slimtune::multiplications);
  return cost;
}

/// A window's cost grows with the window and not with the length: at most a fifth is computed in vain.
void checkCost() {
  constexpr int64_t length = 2048, dim = 64;
  for (const int64_t group : {1, 4}) {
    for (const int64_t window : {256, 512}) {
      for (const int64_t begin : {0, 2048, 6144}) {
        const Cost cost = costOf(begin, begin + length, window, group, dim, 0);
        const double visible = static_cast<double>(length * group * window * dim);
        expect(cost.forward < 1.2 * 2 * visible, "forward", cost.forward / visible);
        expect(cost.backward < 1.2 * 5 * visible, "backward", cost.backward / visible);
      }
    }
  }
}

void checkBounds() {
  for (const int64_t group : {1, 3, 7})
    for (const int64_t dim : {1, 16, 40})
      for (const int64_t begin : {0, 1, 97, 256})
        for (const int64_t queries : {1, 5, 96, 341})
          for (const int64_t window : {1, 2, 17, 100, 256, 700})
            costOf(begin, begin + queries, std::min(window, begin + queries), group, dim, window % 2 ? 0.5F : 0);
}

void checkTanh() {
  for (double x = 1e-30; x < 100; x *= 1.0001) {
    for (const float y : {static_cast<float>(x), static_cast<float>(-x)}) {
      const double exact = std::tanh(static_cast<double>(y));
      expect(std::abs(slimtune::vectorTanh(y) / exact - 1) < 5e-7, "tanh of", y);
    }
  }
  expect(slimtune::vectorTanh(0.F) == 0, "tanh of", 0);
  expect(slimtune::vectorTanh(INFINITY) == 1 && slimtune::vectorTanh(-INFINITY) == -1, "tanh of", INFINITY);
  expect(std::isnan(slimtune::vectorTanh(NAN)), "tanh of", NAN);
}

}  // namespace

int main() {
  checkTanh();
  checkBounds();
  checkCost();
  std::puts("attention reads and computes what it must, and no more");
}
