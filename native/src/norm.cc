#include "norm.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "vectorised.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t rowGrain(int64_t width) { return std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, width)); }

/// The dtype that the arithmetic is done in.
at::ScalarType wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

/// What a row is made of: its mean where it is centered, and the inverse of its root mean square about that.
template <typename T>
struct Statistics {
  T *inverse, *mean;  // [N] each; no mean without centering
};

template <bool kCentered, typename T>
SLIMTUNE_VECTORISED void normSpan(const T* x, const T* weight, const T* bias, const T* residual, double eps, T* y,
                                  Statistics<T> statistics, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += width, y += width) {
    T mean = 0;
    if constexpr (kCentered) {
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < width; i++) total += x[i];
      mean = total / static_cast<T>(width);
      statistics.mean[row] = mean;
    }
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) {
      const T about = kCentered ? x[i] - mean : x[i];
      sum += about * about;
    }
    const T inverse = T(1) / std::sqrt(sum / static_cast<T>(width) + static_cast<T>(eps));
    statistics.inverse[row] = inverse;
    if (bias == nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < width; i++) y[i] = weight[i] * ((kCentered ? x[i] - mean : x[i]) * inverse);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < width; i++) y[i] = weight[i] * ((kCentered ? x[i] - mean : x[i]) * inverse) + bias[i];
    }
    if (residual == nullptr) continue;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) y[i] += residual[i];
    residual += width;
  }
}

/// With n = (x - mean)·inverse and d = dy·weight: dx = (d - n·mean(d·n))·inverse, and where rows are centered less the mean
/// of d.
template <bool kCentered, typename T>
SLIMTUNE_VECTORISED void normSpanBackward(const T* dy, const T* x, const T* weight, Statistics<const T> statistics, T* dx,
                                          int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += width, dy += width, dx += width) {
    const T inverse = statistics.inverse[row];
    if constexpr (kCentered) {
      const T middle = statistics.mean[row];
      T sum = 0, total = 0;
#pragma omp simd reduction(+ : sum, total)
      for (int64_t i = 0; i < width; i++) {
        sum += dy[i] * weight[i] * (x[i] - middle);
        total += dy[i] * weight[i];
      }
      const T slope = sum * inverse * inverse / static_cast<T>(width), mean = total / static_cast<T>(width);
#pragma omp simd
      for (int64_t i = 0; i < width; i++) dx[i] = (dy[i] * weight[i] - mean - (x[i] - middle) * slope) * inverse;
    } else {
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < width; i++) sum += dy[i] * weight[i] * x[i];
      const T mean = sum * inverse * inverse / static_cast<T>(width);
#pragma omp simd
      for (int64_t i = 0; i < width; i++) dx[i] = (dy[i] * weight[i] - x[i] * mean) * inverse;
    }
  }
}

/// Calls body(zero of the dtype, whether rows are centered) with types.
template <typename Body>
void specialised(at::ScalarType dtype, bool centered, const Body& body) {
  const auto ofType = [&](auto zero) { centered ? body(zero, std::true_type{}) : body(zero, std::false_type{}); };
  dtype == at::kDouble ? ofType(double{}) : ofType(float{});
}

using MaybeTensor = std::optional<at::Tensor>;

std::tuple<at::Tensor, at::Tensor> forwardCpu(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                                              bool centered, double eps, at::ScalarType dtype, const MaybeTensor& residual) {
  const at::ScalarType type = wide(x);
  const auto widened = [&](const MaybeTensor& some) { return some ? some->to(type).contiguous() : at::Tensor(); };
  const at::Tensor input = widened(x), scale = widened(weight), shift = widened(bias), added = widened(residual);
  const int64_t rows = x.size(0), width = x.size(1);
  at::Tensor statistics = at::empty({centered ? 2 : 1, rows}, input.options());
  at::Tensor y = at::empty(x.sizes(), input.options());
  specialised(type, centered, [&](auto zero, auto isCentered) {
    using T = decltype(zero);
    const auto at = [](const at::Tensor& some, int64_t place) {
      return some.defined() ? some.const_data_ptr<T>() + place : nullptr;
    };
    T* const kept = statistics.mutable_data_ptr<T>();
    at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      normSpan<decltype(isCentered)::value>(at(input, begin * width), at(scale, 0), at(shift, 0), at(added, begin * width), eps,
                                            y.mutable_data_ptr<T>() + begin * width,
                                            Statistics<T>{kept + begin, kept + rows + begin}, end - begin, width);
    });
  });
  return {y.to(residual ? residual->scalar_type() : dtype), statistics};
}

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of x, in its dtype, weight and bias, in the wide one

at::Tensor normedAgain(const at::Tensor& x, const at::Tensor& statistics) {
  if (statistics.size(0) == 1) return x * statistics[0].unsqueeze(1);
  return (x - statistics[1].unsqueeze(1)) * statistics[0].unsqueeze(1);
}

Gradients backwardCpu(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& statistics,
                      bool weightTrains, bool biasTrains) {
  const at::ScalarType type = wide(x);
  const at::Tensor input = x.to(type).contiguous(), scale = weight.to(type).contiguous(), d = dy.to(type).contiguous();
  const int64_t rows = x.size(0), width = x.size(1);
  at::Tensor dx = at::empty(x.sizes(), input.options());
  specialised(type, statistics.size(0) == 2, [&](auto zero, auto isCentered) {
    using T = decltype(zero);
    const T* const kept = statistics.const_data_ptr<T>();
    at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
      normSpanBackward<decltype(isCentered)::value>(
          d.const_data_ptr<T>() + begin * width, input.const_data_ptr<T>() + begin * width, scale.const_data_ptr<T>(),
          Statistics<const T>{kept + begin, kept + rows + begin}, dx.mutable_data_ptr<T>() + begin * width, end - begin, width);
    });
  });
  at::Tensor dWeight, dBias;
  if (weightTrains && statistics.size(0) == 1) dWeight = at::sum(d * input * statistics[0].unsqueeze(1), {0});
  if (weightTrains && statistics.size(0) == 2) dWeight = at::sum(d * normedAgain(input, statistics), {0});
  if (biasTrains) dBias = at::sum(d, {0});
  return {dx.to(x.scalar_type()), dWeight, dBias};
}

// The same of ATen's ops, for devices without kernels of their own.

std::tuple<at::Tensor, at::Tensor> composedForward(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                                                   bool centered, double eps, at::ScalarType dtype,
                                                   const MaybeTensor& residual) {
  const at::Tensor input = x.to(wide(x));
  const at::Tensor mean = centered ? at::mean(input, {-1}) : at::Tensor();
  const at::Tensor about = centered ? input - mean.unsqueeze(1) : input;
  const at::Tensor inverse = at::rsqrt(at::mean(at::square(about), {-1}) + eps);
  at::Tensor y = weight.to(wide(x)) * (about * inverse.unsqueeze(1));
  if (bias) y.add_(*bias);
  if (residual) y.add_(*residual);
  return {y.to(residual ? residual->scalar_type() : dtype),
          centered ? at::stack({inverse, mean}) : inverse.unsqueeze(0)};
}

Gradients composedBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& statistics,
                           bool weightTrains, bool biasTrains) {
  const at::Tensor d = dy.to(wide(x)), normed = normedAgain(x.to(wide(x)), statistics), scaled = d * weight.to(wide(x));
  at::Tensor about = scaled - normed * at::mean(scaled * normed, {-1}, true);
  if (statistics.size(0) == 2) about.sub_(at::mean(scaled, {-1}, true));
  return {(about * statistics[0].unsqueeze(1)).to(x.scalar_type()), weightTrains ? at::sum(d * normed, {0}) : at::Tensor(),
          biasTrains ? at::sum(d, {0}) : at::Tensor()};
}

template <typename Signature>
auto opNamed(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// scale · (weight + offset): the weight as it is where that changes nothing.
at::Tensor effective(const at::Tensor& weight, double offset, double scale, at::ScalarType dtype) {
  if (!weight.defined() || (offset == 0 && scale == 1)) return weight;
  const at::Tensor moved = weight.to(dtype) + offset;
  return scale == 1 ? moved : moved * scale;
}

/// slimtune::norm: the norm by itself.
struct NormFunction : torch::autograd::Function<NormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& residual, const Norm& norm, double scale, at::ScalarType dtype) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor statistics;
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    const at::Tensor y = normRows(norm, rows, weight, bias.value_or(at::Tensor()), dtype, statistics,
                                  residual ? residual->reshape(rows.sizes()) : at::Tensor(), scale);
    context->save_for_backward({x, weight, bias.value_or(at::Tensor()), statistics});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["offset"] = norm.offset;
    context->saved_data["scale"] = scale;
    return y.view(x.sizes());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &bias = saved[2], &dy = gradients[0];
    const bool added = context->saved_data["residual"].toBool(), biasTrains = bias.defined() && context->needs_input_grad(2);
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    const NormGradients made =
        normBackward(dy.reshape(rows.sizes()), rows, saved[1], bias, saved[3], context->saved_data["offset"].toDouble(),
                     context->needs_input_grad(1), biasTrains, context->saved_data["scale"].toDouble());
    return {made.x.view(x.sizes()), made.weight, made.bias, added ? dy : at::Tensor(), {}, {}, {}};
  }
};

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias, c10::string_view kind, double eps,
                double offset, at::ScalarType dtype, const MaybeTensor& residual, double scale) {
  TORCH_CHECK(x.dim() >= 2 && x.size(-1) > 0 && at::isFloatingType(x.scalar_type()) && x.layout() == at::kStrided,
              "expected x [N, width] or [N, heads, width] of a floating dtype, got ", x.sizes(), " of ", x.scalar_type());
  TORCH_CHECK(at::isFloatingType(dtype), "cannot norm into ", dtype);
  const Norm spec = normOf(kind, eps, offset, weight, bias.value_or(at::Tensor()), x.size(-1));
  if (residual) {
    TORCH_CHECK(residual->sizes() == x.sizes() && at::isFloatingType(residual->scalar_type()) &&
                    residual->layout() == at::kStrided,
                "expected a residual ", x.sizes(), " of a floating dtype, got ", residual->sizes(), " of ",
                residual->scalar_type());
  }
  return NormFunction::apply(x, weight, bias, residual, spec, scale, dtype);
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def(
      "norm(Tensor x, Tensor weight, Tensor? bias, str kind, float eps, float offset, ScalarType dtype, "
      "Tensor? residual=None, float scale=1.) -> Tensor");
  library.impl("norm", c10::DispatchKey::CompositeImplicitAutograd, norm);
  library.def(
      "_norm_forward(Tensor x, Tensor weight, Tensor? bias, bool centered, float eps, ScalarType dtype, Tensor? residual) -> "
      "(Tensor, Tensor)");
  library.def(
      "_norm_backward(Tensor dy, Tensor x, Tensor weight, Tensor statistics, bool weight_trains, bool bias_trains) -> "
      "(Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  library.impl("_norm_forward", forwardCpu);
  library.impl("_norm_backward", backwardCpu);
}
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) {
  library.impl("_norm_forward", composedForward);
  library.impl("_norm_backward", composedBackward);
}

}  // namespace

Norm normOf(c10::string_view kind, double eps, double offset, const at::Tensor& weight, const at::Tensor& bias, int64_t width) {
  TORCH_CHECK(kind == "rms" || kind == "layer", "a norm is rms or layer, not '", kind, "'");
  for (const at::Tensor& part : {weight, bias}) {
    TORCH_CHECK(!part.defined() || (part.dim() == 1 && part.size(0) == width && at::isFloatingType(part.scalar_type()) &&
                                    part.layout() == at::kStrided),
                "expected a norm's weight and bias [", width, "] of a floating dtype, got ", part.sizes(), " of ",
                part.scalar_type());
  }
  return {kind == "layer", eps, offset};
}

at::Tensor normRows(const Norm& norm, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    at::ScalarType dtype, at::Tensor& statistics, const at::Tensor& residual, double scale) {
  static const auto op = opNamed<decltype(forwardCpu)>("slimtune::_norm_forward");
  const auto maybe = [](const at::Tensor& some) { return some.defined() ? MaybeTensor(some) : std::nullopt; };
  at::Tensor y;
  std::tie(y, statistics) = op.call(x, effective(weight, norm.offset, scale, wide(x)), maybe(effective(bias, 0, scale, wide(x))),
                                    norm.centered, norm.eps, dtype, maybe(residual));
  return y;
}

NormGradients normBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, double offset, bool weightTrains, bool biasTrains, double scale) {
  static const auto op = opNamed<decltype(backwardCpu)>("slimtune::_norm_backward");
  auto [dx, dWeight, dBias] = op.call(dy, x, effective(weight, offset, scale, wide(x)), statistics, weightTrains, biasTrains);
  const auto finished = [&](at::Tensor& gradient, const at::Tensor& of) {
    if (!gradient.defined()) return gradient;
    return (scale == 1 ? gradient : gradient.mul_(scale)).to(of.scalar_type());
  };
  return {dx, finished(dWeight, weight), finished(dBias, bias)};
}

}  // namespace slimtune
