// The kernels of native/cuda on the CPU (emulator/) against the formulas in float64. Prints what differs; exit code 1.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "../../native/cuda/device.cuh"

using namespace slimtune::cuda;
using Values = std::vector<double>;

int failures = 0;
std::mt19937 generator(1);

template <typename T>
constexpr Dtype dtypeOf = std::is_same_v<T, float> ? Dtype::f32 : std::is_same_v<T, __half> ? Dtype::f16 : Dtype::bf16;
template <typename T>
constexpr double precisionOf = std::is_same_v<T, float> ? 2e-5 : std::is_same_v<T, __half> ? 2e-3 : 1.6e-2;

/// A matrix with gaps between its rows, which no kernel may touch.
template <typename T>
struct Matrix {
  static constexpr float kGap = 123;
  int64_t rows, width, stride;
  std::vector<T> data;
  Matrix(int64_t rows, int64_t width, int64_t gap = 0)
      : rows(rows), width(width), stride(width + gap), data(rows * stride, narrow<T>(kGap)) {}
  static Matrix random(int64_t rows, int64_t width, int64_t gap = 0) {
    Matrix m(rows, width, gap);
    std::normal_distribution<float> normal;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < width; c++) m.data[r * m.stride + c] = narrow<T>(normal(generator));
    return m;
  }
  double at(int64_t r, int64_t c) const { return wide(data[r * stride + c]); }
  Rows view() { return {data.data(), dtypeOf<T>, stride}; }
};

template <typename T, typename Expected>
void compare(const std::string& what, const Matrix<T>& actual, const Expected& expected, double tolerance = precisionOf<T>) {
  double worst = 0;
  for (int64_t r = 0; r < actual.rows; r++) {
    for (int64_t c = 0; c < actual.stride; c++) {
      const double value = wide(actual.data[r * actual.stride + c]);
      const double wanted = c < actual.width ? expected(r, c) : wide(narrow<T>(Matrix<T>::kGap));
      const double error = std::abs(value - wanted) / (1 + std::abs(wanted));
      if (!(error <= worst)) worst = error;  // NaN counts
    }
  }
  if (worst <= tolerance) return;
  failures++;
  std::printf("%s: off by %g (%ld x %ld)\n", what.c_str(), worst, long(actual.rows), long(actual.width));
}

/// Plain, or centered with a bias and a residual.
template <typename X, typename W, typename Y>
void checkNorm(int64_t rows, int64_t width, int64_t gap, bool centered) {
  auto x = Matrix<X>::random(rows, width, gap);
  auto weight = Matrix<W>::random(1, width), bias = Matrix<W>::random(1, width);
  auto residual = Matrix<Y>::random(rows, width, gap);
  constexpr float eps = 1e-2f;
  Matrix<Y> y(rows, width);
  Matrix<float> inverse(rows, 1), mean(rows, 1);
  float* const kept = centered ? mean.data.data() : nullptr;
  norm(x.view(), weight.view(), centered ? bias.view() : Rows{}, eps, rows, width, y.view(), centered ? residual.view() : Rows{},
       inverse.data.data(), kept, nullptr);
  Values middle(rows), root(rows);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < width; c++) middle[r] += centered ? x.at(r, c) / width : 0;
    double squares = 0;
    for (int64_t c = 0; c < width; c++) squares += std::pow(x.at(r, c) - middle[r], 2);
    root[r] = std::sqrt(squares / width + eps);
  }
  const std::string name = centered ? "layer norm" : "rms norm";
  const auto normed = [&](int64_t r, int64_t c) { return (x.at(r, c) - middle[r]) / root[r]; };
  compare(name, y, [&](int64_t r, int64_t c) {
    return weight.at(0, c) * normed(r, c) + (centered ? bias.at(0, c) + residual.at(r, c) : 0);
  });
  compare(name + ": inverse", inverse, [&](int64_t r, int64_t) { return 1 / root[r]; });
  if (centered) compare(name + ": mean", mean, [&](int64_t r, int64_t) { return middle[r]; });

  auto dy = Matrix<Y>::random(rows, width, gap);
  Matrix<X> dx(rows, width);
  normBackward(dy.view(), x.view(), weight.view(), inverse.data.data(), kept, rows, width, dx.view(), nullptr);
  // d/dx[c] of Σ dy·w·(x - mean)/root, with root's derivative (x[c] - mean) / (width · root)
  compare(name + ": backward", dx, [&](int64_t r, int64_t c) {
    double dot = 0, sum = 0;
    for (int64_t k = 0; k < width; k++) {
      dot += dy.at(r, k) * weight.at(0, k) * (x.at(r, k) - middle[r]);
      sum += centered ? dy.at(r, k) * weight.at(0, k) : 0;
    }
    return (dy.at(r, c) * weight.at(0, c) - sum / width) / root[r] - dot * normed(r, c) / (width * root[r] * root[r]);
  });
  const int64_t chunks = (rows + kWeightRows - 1) / kWeightRows;
  Matrix<float> weightSums(chunks, width), biasSums(chunks, width), dWeight(1, width), dBias(1, width);
  normBackwardWeight(dy.view(), x.view(), inverse.data.data(), kept, rows, width, weightSums.data.data(),
                     centered ? biasSums.data.data() : nullptr, nullptr);
  for (int64_t c = 0; c < width; c++) {
    dWeight.data[c] = dBias.data[c] = 0;
    for (int64_t k = 0; k < chunks; k++) {
      dWeight.data[c] += weightSums.data[k * width + c];
      dBias.data[c] += biasSums.data[k * width + c];
    }
  }
  const auto overRows = [&](int64_t c, const auto& value) {
    double total = 0;
    for (int64_t r = 0; r < rows; r++) total += dy.at(r, c) * value(r, c);
    return total;
  };
  compare(name + ": weight", dWeight, [&](int64_t, int64_t c) { return overRows(c, normed); });
  if (centered) compare(name + ": bias", dBias, [&](int64_t, int64_t c) { return overRows(c, [](int64_t, int64_t) { return 1.; }); });
}

/// The first 2·half elements of each head turn.
template <typename T>
void checkRope(int64_t rows, int64_t heads, int64_t dim, int64_t half, int64_t gap) {
  auto x = Matrix<T>::random(rows, heads * dim, gap);
  auto cos = Matrix<float>::random(rows, half), sin = Matrix<float>::random(rows, half);
  for (int64_t i = 0; i < rows * half; i++) sin.data[i] = std::sin(cos.data[i]), cos.data[i] = std::cos(cos.data[i]);
  for (const bool inverse : {false, true}) {
    for (const bool interleaved : {false, true}) {
      Matrix<T> y(rows, heads * dim);
      rope(x.view(), dim, cos.data.data(), sin.data.data(), inverse, interleaved, rows, heads, dim, half, y.view(), nullptr);
      compare(interleaved ? "rope, interleaved" : "rope", y, [&](int64_t r, int64_t c) {
        const int64_t begin = c / dim * dim, place = c % dim;
        if (place >= 2 * half) return x.at(r, c);
        const int64_t i = interleaved ? place / 2 : place % half;
        const bool first = interleaved ? place % 2 == 0 : place < half;
        const double a = x.at(r, begin + (interleaved ? 2 * i : i)), b = x.at(r, begin + (interleaved ? 2 * i + 1 : i + half));
        const double cosine = cos.at(r, i), sine = (inverse ? -1 : 1) * sin.at(r, i);
        return first ? a * cosine - b * sine : b * cosine + a * sine;
      });
    }
  }
}

double activated(slimtune::Activation activation, double x) {
  using slimtune::Activation;
  switch (activation) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu: return x * 0.5 * (1 + std::erf(x / std::sqrt(2)));
    case Activation::geluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::relu2: return x > 0 ? x * x : 0;
    case Activation::relu: return x > 0 ? x : 0;
  }
  return NAN;
}

template <typename T>
void checkGate(int64_t rows, int64_t width, int64_t gap) {
  for (int which = 0; which < 5; which++) {
    const auto activation = static_cast<slimtune::Activation>(which);
    for (const bool beside : {true, false}) {
      auto g = Matrix<T>::random(rows, width, gap), up = Matrix<T>::random(rows, width, gap);
      auto dy = Matrix<T>::random(rows, width);
      const std::string name = "activation " + std::to_string(which) + (beside ? " of a gate" : "");
      const auto factor = [&](int64_t r, int64_t c) { return beside ? up.at(r, c) : 1; };
      const auto slope = [&](double x) { return (activated(activation, x + 1e-6) - activated(activation, x - 1e-6)) / 2e-6; };
      Matrix<T> y(rows, width), dGate(rows, width), dUp(rows, width);
      gate(activation, g.view(), beside ? up.view() : Rows{}, rows, width, y.view(), nullptr);
      compare(name, y, [&](int64_t r, int64_t c) { return activated(activation, g.at(r, c)) * factor(r, c); });
      gateBackward(activation, dy.view(), g.view(), beside ? up.view() : Rows{}, rows, width, dGate.view(),
                   beside ? dUp.view() : Rows{}, nullptr);
      compare(name + ": gradient", dGate, [&](int64_t r, int64_t c) { return dy.at(r, c) * factor(r, c) * slope(g.at(r, c)); });
      if (beside) compare(name + ": up", dUp, [&](int64_t r, int64_t c) { return dy.at(r, c) * activated(activation, g.at(r, c)); });
    }
  }
}

/// Two blocks of classes, as parts of the same rows.
void checkExpBlock(int64_t rows, int64_t classes, int64_t gap, float cap) {
  const int64_t split = classes / 2 / 4 * 4;
  const auto given = Matrix<float>::random(rows, classes, gap);
  auto z = given;
  const auto share = [&](int64_t r, int64_t c) { return cap > 0 ? std::tanh(given.at(r, c) / cap) : 0.; };
  const auto logit = [&](int64_t r, int64_t c) { return cap > 0 ? cap * share(r, c) : given.at(r, c); };
  std::vector<int64_t> targets(rows);
  for (auto& target : targets) target = static_cast<int64_t>(generator() % classes);
  Matrix<float> most(rows, 1), others(rows, 1), targetLogit(rows, 1), first(rows, 1), second(rows, 1);
  std::fill(most.data.begin(), most.data.end(), -INFINITY);
  std::fill(others.data.begin(), others.data.end(), 0.f);
  const auto block = [&](int64_t begin, int64_t end, Matrix<float>& factor) {
    expBlock(z.data.data() + begin, z.stride, targets.data(), begin, rows, end - begin, cap, most.data.data(),
             others.data.data(), targetLogit.data.data(), factor.data.data(), nullptr);
  };
  block(0, split, first);
  const auto mostBefore = most;
  block(split, classes, second);

  const auto largest = [&](int64_t r, int64_t end) {
    double value = -INFINITY;
    for (int64_t c = 0; c < end; c++) value = std::max(value, logit(r, c));
    return value;
  };
  compare("expBlock: most", most, [&](int64_t r, int64_t) { return largest(r, classes); });
  compare("expBlock: target", targetLogit, [&](int64_t r, int64_t) { return logit(r, targets[r]); });
  compare("expBlock: first factor", first, [&](int64_t, int64_t) { return 0; });  // exp(-∞)
  compare("expBlock: second factor", second,
          [&](int64_t r, int64_t) { return std::exp(mostBefore.at(r, 0) - largest(r, classes)); });
  compare("expBlock: others", others, [&](int64_t r, int64_t) {
    double sum = 0;
    for (int64_t c = 0; c < classes; c++) sum += c == targets[r] ? 0 : std::exp(logit(r, c) - largest(r, classes));
    return sum;
  });
  compare("expBlock: exponentials", z, [&](int64_t r, int64_t c) {
    return c == targets[r] ? 0 : std::exp(logit(r, c) - largest(r, c < split ? split : classes)) * (1 - std::pow(share(r, c), 2));
  });
}

/// Rows of a weight in 4 bits (plain and with double quantization) and in 8: exactly the products of floats.
template <typename T>
void checkDequantize(int64_t out, int64_t width) {
  const int64_t blocks = (out * width + 63) / 64;
  std::vector<uint8_t> codes(out * width), nestedCodes(blocks);
  for (auto& code : codes) code = static_cast<uint8_t>(generator());
  for (auto& code : nestedCodes) code = static_cast<uint8_t>(generator());
  const auto floats = [](int64_t count) { return Matrix<float>::random(1, count).data; };
  const auto values = floats(16), magnitudes = floats(std::max(out, blocks)), nested = floats(256), offset = floats(1);
  const auto exactly = [](float x) { return static_cast<double>(wide(narrow<T>(x))); };
  for (const int64_t begin : {int64_t{0}, out / 3, out - 1}) {
    const int64_t rows = std::min<int64_t>(5, out - begin);
    const auto value = [&](int64_t r, int64_t c, bool isNested) {
      const int64_t i = (begin + r) * width + c, block = i / 64;
      const int code = i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15;
      const float product = nested[nestedCodes[block]] * magnitudes[block / 256];
      return exactly(values[code] * (isNested ? product + offset[0] : magnitudes[block]));
    };
    const QuantizedWeight plain{codes.data(), magnitudes.data(), values.data(), nullptr, nullptr, nullptr};
    const QuantizedWeight twice{codes.data(), nestedCodes.data(), values.data(), magnitudes.data(), nested.data(), offset.data()};
    Matrix<T> y(rows, width);
    dequantize4bit(plain, begin, rows, width, y.data.data(), dtypeOf<T>, nullptr);
    compare("dequantize4bit", y, [&](int64_t r, int64_t c) { return value(r, c, false); }, 0);
    dequantize4bit(twice, begin, rows, width, y.data.data(), dtypeOf<T>, nullptr);
    compare("dequantize4bit, double", y, [&](int64_t r, int64_t c) { return value(r, c, true); }, 0);
    dequantize8bit(plain, begin, rows, width, y.data.data(), dtypeOf<T>, nullptr);
    compare("dequantize8bit", y, [&](int64_t r, int64_t c) {
      const float scale = magnitudes[begin + r] * static_cast<float>(1. / 127);
      return exactly(static_cast<float>(static_cast<int8_t>(codes[(begin + r) * width + c])) * scale);
    }, 0);
  }
}

int checkOptimizers();

int main() {
  for (const int64_t rows : {0, 2, 67}) {
    for (const int64_t width : {1, 6, 260}) {
      for (const int64_t gap : {4, 3}) {
        for (const bool centered : {false, true}) {
          checkNorm<float, float, float>(rows, width, gap, centered);
          checkNorm<float, __nv_bfloat16, __nv_bfloat16>(rows, width, gap, centered);
          checkNorm<__nv_bfloat16, float, __nv_bfloat16>(rows, width, gap, centered);
          checkNorm<float, float, __half>(rows, width, gap, centered);
        }
        checkGate<float>(rows, width, gap);
        checkGate<__nv_bfloat16>(rows, width, gap);
        checkGate<__half>(rows, width, gap);
        if (width > 1) checkExpBlock(rows, 4 * width, gap, 0);
        if (width > 1) checkExpBlock(rows, 4 * width, gap, 1.5);
      }
    }
    for (const int64_t heads : {1, 3}) {
      for (const auto& [dim, half] : {std::pair<int64_t, int64_t>{2, 1}, {64, 32}, {80, 16}, {7, 2}}) {
        checkRope<float>(rows, heads, dim, half, 5);
        checkRope<__nv_bfloat16>(rows, heads, dim, half, 0);
        checkRope<__half>(rows, heads, dim, half, 8);
      }
    }
  }
  checkNorm<float, float, float>(2, 8192, 0, false);  // more packs than threads
  checkNorm<float, float, float>(2, 8192, 0, true);
  checkExpBlock(2, 5003, 0, 0);
  checkExpBlock(2, 5003, 0, 1.5);
  for (const int64_t width : {18, 40, 192}) {
    checkDequantize<float>(7, width);
    checkDequantize<__nv_bfloat16>(90, width);
    checkDequantize<__half>(9, width);
  }
  failures += checkOptimizers();
  if (failures == 0) std::printf("all kernels agree\n");
  return failures > 0;
}
