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

template <typename X, typename W, typename Y>
void checkNorm(int64_t rows, int64_t width, int64_t gap) {
  auto x = Matrix<X>::random(rows, width, gap), added = Matrix<X>::random(rows, width, gap);
  auto residual = Matrix<float>::random(rows, width), weight32 = Matrix<float>::random(1, width);
  Matrix<W> weight(1, width);
  for (int64_t c = 0; c < width; c++) weight.data[c] = narrow<W>(weight32.data[c]);
  constexpr float eps = 1e-5f;
  for (const bool adds : {false, true}) {
    Matrix<Y> y(rows, width, gap);
    Matrix<float> sum(rows, width), inverse(rows, 1);
    rmsNorm(x.view(), adds ? residual.data.data() : nullptr, weight.view(), eps, rows, width, y.view(),
            adds ? sum.data.data() : nullptr, inverse.data.data(), nullptr);
    const auto value = [&](int64_t r, int64_t c) { return x.at(r, c) + (adds ? residual.at(r, c) : 0); };
    Values rms(rows);
    for (int64_t r = 0; r < rows; r++) {
      double squares = 0;
      for (int64_t c = 0; c < width; c++) squares += value(r, c) * value(r, c);
      rms[r] = std::sqrt(squares / width + eps);
    }
    compare("rmsNorm", y, [&](int64_t r, int64_t c) { return weight.at(0, c) * value(r, c) / rms[r]; });
    compare("rmsNorm: 1/rms", inverse, [&](int64_t r, int64_t) { return 1 / rms[r]; });
    if (adds) compare("rmsNorm: sum", sum, value);
    if (adds) continue;

    auto dy = Matrix<Y>::random(rows, width, gap);
    auto dSum = Matrix<float>::random(rows, width);
    for (const bool another : {false, true}) {
      Matrix<X> dx(rows, width);
      rmsNormBackward(dy.view(), x.view(), weight.view(), inverse.data.data(), another ? dSum.data.data() : nullptr,
                      rows, width, dx.view(), nullptr);
      // d/dx[c] of Σ dy·w·x/rms, with rms' derivative x[c] / (width · rms)
      compare("rmsNormBackward", dx, [&](int64_t r, int64_t c) {
        double dot = 0;
        for (int64_t k = 0; k < width; k++) dot += dy.at(r, k) * weight.at(0, k) * x.at(r, k);
        const double own = dy.at(r, c) * weight.at(0, c) / rms[r] - dot * x.at(r, c) / (width * std::pow(rms[r], 3));
        return own + (another ? dSum.at(r, c) : 0);
      });
    }
    const int64_t chunks = (rows + kWeightRows - 1) / kWeightRows;
    Matrix<float> partial(chunks, width), dWeight(1, width);
    rmsNormBackwardWeight(dy.view(), x.view(), inverse.data.data(), rows, width, partial.data.data(), nullptr);
    for (int64_t c = 0; c < width; c++) {
      dWeight.data[c] = 0;
      for (int64_t k = 0; k < chunks; k++) dWeight.data[c] += partial.data[k * width + c];
    }
    compare("rmsNormBackwardWeight", dWeight, [&](int64_t, int64_t c) {
      double total = 0;
      for (int64_t r = 0; r < rows; r++) total += dy.at(r, c) * x.at(r, c) / rms[r];
      return total;
    });
  }
}

template <typename X, typename Y>
void checkRope(int64_t rows, int64_t heads, int64_t dim, int64_t gap) {
  const int64_t half = dim / 2;
  auto x = Matrix<X>::random(rows, heads * dim, gap);
  auto angles = Matrix<float>::random(rows, half), cos = Matrix<float>(rows, half, 3), sin = Matrix<float>(rows, half, 3);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < half; i++) {
      cos.data[r * cos.stride + i] = std::cos(angles.at(r, i));
      sin.data[r * sin.stride + i] = std::sin(angles.at(r, i));
    }
  }
  for (const bool inverse : {false, true}) {
    Matrix<Y> y(rows, heads * dim);
    rope(x.view(), dim, cos.data.data(), sin.data.data(), cos.stride, inverse, rows, heads, dim, y.view(), nullptr);
    compare("rope", y, [&](int64_t r, int64_t c) {
      const int64_t begin = c / dim * dim, i = c % dim % half;
      const double a = x.at(r, begin + i), b = x.at(r, begin + half + i);
      const double cosine = cos.at(r, i), sine = (inverse ? -1 : 1) * sin.at(r, i);
      return c % dim < half ? a * cosine - b * sine : b * cosine + a * sine;
    });
  }
}

template <typename T>
void checkGated(int64_t rows, int64_t width, int64_t gap) {
  auto gate = Matrix<T>::random(rows, width, gap), up = Matrix<T>::random(rows, width, gap);
  auto dy = Matrix<T>::random(rows, width);
  for (const auto kind : {Activation::silu, Activation::geluTanh}) {
    const auto act = [&](double x) {
      if (kind == Activation::silu) return x / (1 + std::exp(-x));
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    };
    const auto slope = [&](double x) { return (act(x + 1e-5) - act(x - 1e-5)) / 2e-5; };
    Matrix<T> y(rows, width), dGate(rows, width), dUp(rows, width);
    gated(gate.view(), up.view(), kind, rows, width, y.view(), nullptr);
    compare("gated", y, [&](int64_t r, int64_t c) { return act(gate.at(r, c)) * up.at(r, c); });
    gatedBackward(dy.view(), gate.view(), up.view(), kind, rows, width, dGate.view(), dUp.view(), nullptr);
    compare("gatedBackward: gate", dGate,
            [&](int64_t r, int64_t c) { return dy.at(r, c) * up.at(r, c) * slope(gate.at(r, c)); });
    compare("gatedBackward: up", dUp, [&](int64_t r, int64_t c) { return dy.at(r, c) * act(gate.at(r, c)); });
  }
}

template <typename T>
void checkCrossEntropy(int64_t rows, int64_t classes, int64_t gap, float smoothing) {
  const auto logits = Matrix<T>::random(rows, classes, gap);
  std::vector<int64_t> targets(rows);
  for (auto& target : targets) target = static_cast<int64_t>(generator() % classes);
  Values logSum(rows), mean(rows);
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t c = 0; c < classes; c++) {
      sum += std::exp(logits.at(r, c));
      mean[r] += logits.at(r, c) / classes;
    }
    logSum[r] = std::log(sum);
  }
  const auto expectedLoss = [&](int64_t r, int64_t) {
    return (1 - smoothing) * (logSum[r] - logits.at(r, targets[r])) + smoothing * (logSum[r] - mean[r]);
  };
  constexpr float scale = 0.25f;
  for (const bool gradient : {false, true}) {
    auto z = logits;
    Matrix<float> loss(rows, 1);
    crossEntropy(z.view(), targets.data(), smoothing, scale, gradient, rows, classes, loss.data.data(), nullptr);
    compare("crossEntropy: loss", loss, expectedLoss);
    compare("crossEntropy: gradient", z, [&](int64_t r, int64_t c) {
      if (!gradient) return logits.at(r, c);
      const double wanted = smoothing / classes + (c == targets[r] ? 1 - smoothing : 0);
      return scale * (std::exp(logits.at(r, c) - logSum[r]) - wanted);
    });
  }
  if (rows == 0) return;
  targets[0] = classes;
  auto z = logits;
  Matrix<float> loss(rows, 1);
  crossEntropy(z.view(), targets.data(), smoothing, scale, false, rows, classes, loss.data.data(), nullptr);
  if (!std::isnan(loss.data[0])) failures++, std::printf("crossEntropy: a target outside of the classes has a loss\n");
}

int main() {
  for (const int64_t rows : {0, 2, 67}) {
    for (const int64_t width : {1, 6, 260}) {
      for (const int64_t gap : {4, 3}) {
        checkNorm<float, float, float>(rows, width, gap);
        checkNorm<float, __nv_bfloat16, __nv_bfloat16>(rows, width, gap);
        checkNorm<__nv_bfloat16, float, __nv_bfloat16>(rows, width, gap);
        checkNorm<float, float, __half>(rows, width, gap);
        checkGated<float>(rows, width, gap);
        checkGated<__nv_bfloat16>(rows, width, gap);
        checkGated<__half>(rows, width, gap);
        for (const float smoothing : {0.f, 0.1f}) {
          checkCrossEntropy<float>(rows, width, gap, smoothing);
          checkCrossEntropy<__nv_bfloat16>(rows, width, gap, smoothing);
        }
      }
    }
    for (const int64_t heads : {1, 3}) {
      for (const int64_t dim : {2, 16, 64}) {
        checkRope<float, float>(rows, heads, dim, 5);
        checkRope<float, __nv_bfloat16>(rows, heads, dim, 0);
        checkRope<__nv_bfloat16, __nv_bfloat16>(rows, heads, dim, 8);
      }
    }
  }
  checkNorm<float, float, float>(2, 8192, 0);  // more packs than threads
  checkCrossEntropy<float>(2, 5003, 0, 0.1f);
  if (failures == 0) std::printf("all kernels agree\n");
  return failures > 0;
}
