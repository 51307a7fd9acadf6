// slimtune::…_step_: one update of many parameters by a rule that takes each element by itself, in one parallel pass.
//
// States are float32, or 8-bit codes with one scale per 256 elements: a block is decoded, updated and encoded in the
// cache, so that no float32 state exists in memory. The weights' update uses the new states before they are rounded.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "dynamic_map.h"
#include "optimizer_rules.h"

namespace slimtune {
namespace {

constexpr int64_t kChunk = 64 * kQuantizedBlock;  // elements that a thread takes at a time

/// What an update works on: n parameters, their gradients, and n tensors for each of the rule's states (all of the first
/// state, then all of the second). With 8-bit states these are uint8, and `scales` has as many float32 tensors.
struct Tensors {
  at::TensorList parameters, gradients, states, scales;
  const at::Tensor& state(size_t parameter, int state) const { return states[place(parameter, state)]; }
  const at::Tensor& scale(size_t parameter, int state) const { return scales[place(parameter, state)]; }
  size_t place(size_t parameter, int state) const { return parameter + static_cast<size_t>(state) * parameters.size(); }
};

bool isPlain(const at::Tensor& tensor, at::ScalarType type, int64_t elements) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.is_contiguous() && tensor.scalar_type() == type &&
         tensor.numel() == elements;
}

void check(const Tensors& tensors, int states) {
  const auto [parameters, gradients, values, scales] = tensors;
  const size_t count = parameters.size();
  TORCH_CHECK(gradients.size() == count && values.size() == count * states, "expected a gradient and ", states,
              " states for each of ", count, " parameters, got ", gradients.size(), " and ", values.size());
  TORCH_CHECK(scales.empty() || scales.size() == values.size(), "expected no scales or one tensor for each of ",
              values.size(), " states, got ", scales.size());
  for (size_t i = 0; i < count; i++) {
    const int64_t elements = parameters[i].numel();
    TORCH_CHECK(isPlain(parameters[i], at::kFloat, elements) && isPlain(gradients[i], at::kFloat, elements),
                "parameter ", i, " and its gradient must be contiguous float32 of one size");
    for (size_t at = i; at < values.size(); at += count) {
      TORCH_CHECK(isPlain(values[at], scales.empty() ? at::kFloat : at::kByte, elements), "state ", at,
                  " must be contiguous, of its parameter's size and ", scales.empty() ? "float32" : "uint8");
      TORCH_CHECK(scales.empty() || isPlain(scales[at], at::kFloat, (elements + kQuantizedBlock - 1) / kQuantizedBlock), "scales ",
                  at, " must be float32, one for each ", kQuantizedBlock, " elements");
    }
  }
}

/// A run of at most kQuantizedBlock elements with 8-bit states. Where a gradient is not finite, the weight stays and its
/// states become zero: one such element would otherwise spoil the scale of its block.
template <class Rule>
void updateQuantized(const Rule& rule, float* p, const float* g, uint8_t* const* codes, float* const* scales,
                     int64_t count) {
  float values[kMostStates][kQuantizedBlock], before[kQuantizedBlock];
  float* states[kMostStates];
  const auto map = [](int state) -> const DynamicMap& {
    return Rule::hasSign(state) ? DynamicMap::withSign() : DynamicMap::withoutSign();
  };
  for (int s = 0; s < rule.states(); s++) {
    states[s] = values[s];
    map(s).decode(codes[s], *scales[s], values[s], count);
  }
  const bool finite = std::all_of(g, g + count, [](float x) { return std::isfinite(x); });
  if (!finite) std::copy(p, p + count, before);
  rule.update(p, g, states, count);
  for (int64_t i = 0; !finite && i < count; i++) {
    if (std::isfinite(g[i])) continue;
    p[i] = before[i];
    for (int s = 0; s < rule.states(); s++) values[s][i] = 0.f;
  }
  for (int s = 0; s < rule.states(); s++) *scales[s] = map(s).encode(values[s], codes[s], count);
}

struct Chunk {
  size_t tensor;
  int64_t begin, end;
};

std::vector<Chunk> chunksOf(at::TensorList parameters) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < parameters.size(); i++) {
    const int64_t elements = parameters[i].numel();
    for (int64_t begin = 0; begin < elements; begin += kChunk) {
      chunks.push_back({i, begin, std::min(begin + kChunk, elements)});
    }
  }
  return chunks;
}

template <class Rule>
void updateChunk(const Rule& rule, const Tensors& tensors, const Chunk& chunk) {
  float* p = tensors.parameters[chunk.tensor].data_ptr<float>();
  const float* g = tensors.gradients[chunk.tensor].data_ptr<float>();
  if (tensors.scales.empty()) {
    float* states[kMostStates];
    for (int s = 0; s < rule.states(); s++) states[s] = tensors.state(chunk.tensor, s).data_ptr<float>() + chunk.begin;
    rule.update(p + chunk.begin, g + chunk.begin, states, chunk.end - chunk.begin);
    return;
  }
  for (int64_t at = chunk.begin; at < chunk.end; at += kQuantizedBlock) {
    uint8_t* codes[kMostStates];
    float* scales[kMostStates];
    for (int s = 0; s < rule.states(); s++) {
      codes[s] = tensors.state(chunk.tensor, s).data_ptr<uint8_t>() + at;
      scales[s] = tensors.scale(chunk.tensor, s).data_ptr<float>() + at / kQuantizedBlock;
    }
    updateQuantized(rule, p + at, g + at, codes, scales, std::min(kQuantizedBlock, chunk.end - at));
  }
}

template <class Rule>
void step(const Rule& rule, const Tensors& tensors) {
  check(tensors, rule.states());
  const std::vector<Chunk> chunks = chunksOf(tensors.parameters);
  at::parallel_for(0, static_cast<int64_t>(chunks.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; c++) updateChunk(rule, tensors, chunks[static_cast<size_t>(c)]);
  });
}

float narrow(double value) { return static_cast<float>(value); }

void adamwStep(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
               double gradientScale, double lr, double weightDecay, int64_t step_, double beta1, double beta2, double eps) {
  const auto t = static_cast<double>(step_);
  step(AdamWRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2), narrow(eps),
                 narrow(1 - std::pow(beta1, t)), narrow(std::sqrt(1 - std::pow(beta2, t)))},
       {self, gradients, states, scales});
}

void lionStep(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
              double gradientScale, double lr, double weightDecay, double beta1, double beta2) {
  step(LionRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2)},
       {self, gradients, states, scales});
}

void ademamixStep(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                  double gradientScale, double lr, double weightDecay, int64_t step_, double beta1, double beta2,
                  double beta3, double alpha, double eps) {
  const auto t = static_cast<double>(step_);
  step(AdEMAMixRule{narrow(gradientScale), narrow(lr), narrow(1 - lr * weightDecay), narrow(beta1), narrow(beta2),
                    narrow(beta3), narrow(alpha), narrow(eps), narrow(1 - std::pow(beta1, t)),
                    narrow(std::sqrt(1 - std::pow(beta2, t)))},
       {self, gradients, states, scales});
}

void sgdStep(at::TensorList self, at::TensorList gradients, at::TensorList states, double gradientScale, double lr,
             double weightDecay, double momentum, double dampening, bool nesterov) {
  step(SGDRule{narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(momentum), narrow(dampening), nesterov},
       {self, gradients, states, {}});
}

void rmspropStep(at::TensorList self, at::TensorList gradients, at::TensorList states, at::TensorList scales,
                 double gradientScale, double lr, double weightDecay, double alpha, double eps, double momentum,
                 bool centered) {
  step(RMSpropRule{narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(alpha), narrow(eps), narrow(momentum),
                   centered},
       {self, gradients, states, scales});
}

void adagradStep(at::TensorList self, at::TensorList gradients, at::TensorList states, double gradientScale, double lr,
                 double weightDecay, double eps) {
  step(AdagradRule{narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(eps)}, {self, gradients, states, {}});
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  const std::string lists = "(Tensor(a!)[] self, Tensor[] gradients, Tensor(b!)[] states, ";
  const std::string scales = "Tensor(c!)[] scales, ";
  const std::string rates = "float gradient_scale, float lr, float weight_decay, ";
  const auto define = [&](const std::string& schema) { library.def(schema.c_str()); };
  define("adamw_step_" + lists + scales + rates + "int step, float beta1, float beta2, float eps) -> ()");
  define("lion_step_" + lists + scales + rates + "float beta1, float beta2) -> ()");
  define("ademamix_step_" + lists + scales + rates +
         "int step, float beta1, float beta2, float beta3, float alpha, float eps) -> ()");
  define("sgd_step_" + lists + rates + "float momentum, float dampening, bool nesterov) -> ()");
  define("rmsprop_step_" + lists + scales + rates + "float alpha, float eps, float momentum, bool centered) -> ()");
  define("adagrad_step_" + lists + rates + "float eps) -> ()");
}

TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  library.impl("adamw_step_", adamwStep);
  library.impl("lion_step_", lionStep);
  library.impl("ademamix_step_", ademamixStep);
  library.impl("sgd_step_", sgdStep);
  library.impl("rmsprop_step_", rmspropStep);
  library.impl("adagrad_step_", adagradStep);
}

}  // namespace
}  // namespace slimtune
