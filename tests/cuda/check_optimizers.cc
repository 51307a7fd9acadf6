// The optimizers' kernels against the CPU's updates: the same bits, both compiled without fused multiply-add.
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "../../native/cuda/kernels.h"
#include "../../native/src/dynamic_map.h"
#include "../../native/src/quantized_update.h"

using namespace slimtune;

namespace {

int failures = 0;
std::mt19937 generator(2);

template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

std::vector<float> scattered(int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator) * std::pow(10.f, static_cast<float>(generator() % 5) - 3.f);
  return values;
}

struct Parameter {
  std::vector<float> weight, gradient, states[kMostStates], scales[kMostStates];
  std::vector<uint8_t> codes[kMostStates];
  explicit Parameter(int64_t count) : weight(scattered(count)), gradient(count) {
    for (int s = 0; s < kMostStates; s++) {
      states[s].resize(count);
      codes[s].resize(count);
      scales[s].resize((count + kQuantizedBlock - 1) / kQuantizedBlock);
    }
  }
  int64_t count() const { return static_cast<int64_t>(weight.size()); }
  cuda::UpdatedTensor view(bool quantized) {
    cuda::UpdatedTensor result{weight.data(), gradient.data(), {}, {}, count()};
    for (int s = 0; s < kMostStates; s++) {
      result.states[s] = quantized ? static_cast<void*>(codes[s].data()) : states[s].data();
      result.scales[s] = scales[s].data();
    }
    return result;
  }
  /// Returns whether all that it made is finite.
  template <class Rule>
  bool updateOnCpu(const Rule& rule, bool quantized) {
    float* values[kMostStates] = {states[0].data(), states[1].data(), states[2].data()};
    if (!quantized) return update(rule, weight.data(), gradient.data(), values, count());
    bool finite = true;
    for (int64_t begin = 0; begin < count(); begin += kQuantizedBlock) {
      uint8_t* blockCodes[kMostStates];
      float* blockScales[kMostStates];
      for (int s = 0; s < kMostStates; s++) {
        blockCodes[s] = codes[s].data() + begin;
        blockScales[s] = scales[s].data() + begin / kQuantizedBlock;
      }
      finite &= updateQuantized(rule, weight.data() + begin, gradient.data() + begin, blockCodes, blockScales,
                                std::min(kQuantizedBlock, count() - begin));
    }
    return finite;
  }
};

/// @param lanes sizes are multiples of it
template <class Rule>
void check(const char* name, const Rule& rule, int64_t lanes = 1) {
  cuda::CodeValues values;
  std::copy_n(DynamicMap::withoutSign().values().begin(), 256, values.withoutSign);
  std::copy_n(DynamicMap::withSign().values().begin(), 256, values.withSign);
  for (const bool quantized : {false, true}) {
    std::vector<Parameter> expected;
    for (const int64_t count : {5, 0, 256, 257, 4096, 4097, 9000}) expected.emplace_back((count + lanes - 1) / lanes * lanes);
    for (int64_t i = 0; i < 60; i++) expected.emplace_back((1 + i % 3) * lanes);  // more than one launch takes
    std::vector<Parameter> actual = expected;
    for (int step = 0; step < 4; step++) {
      if (step == 3) actual[5].weight[4001] = expected[5].weight[4001] = INFINITY;
      bool finite = true;
      for (size_t i = 0; i < expected.size(); i++) {
        auto& gradient = expected[i].gradient = scattered(expected[i].count());
        if (gradient.size() > 300) gradient[299] = 0.f;
        if (quantized && gradient.size() > 300) gradient[17] = step == 1 ? INFINITY : NAN;
        actual[i].gradient = gradient;
        finite &= expected[i].updateOnCpu(rule, quantized);
      }
      std::vector<cuda::UpdatedTensor> views;
      for (Parameter& parameter : actual) views.push_back(parameter.view(quantized));
      const auto count = static_cast<int64_t>(views.size());
      float nonfinite = 0.f;
      if (quantized) {
        cuda::optimizerStep8bit(rule, values, views.data(), count, &nonfinite, nullptr);
      } else {
        cuda::optimizerStep(rule, views.data(), count, &nonfinite, nullptr);
      }
      // A centered variance in 8 bits is at times negative.
      const bool expectFinite = step < 3 && (finite || !quantized);
      if (finite == expectFinite && nonfinite == (finite ? 0.f : 1.f)) continue;
      failures++;
      std::printf("%s%s: notes wrongly whether all that it made is finite\n", name, quantized ? ", 8 bits" : "");
    }
    for (size_t i = 0; i < expected.size(); i++) {
      bool equal = same(actual[i].weight, expected[i].weight);
      for (int s = 0; s < kMostStates; s++) {
        equal = equal && same(actual[i].states[s], expected[i].states[s]) &&
                same(actual[i].codes[s], expected[i].codes[s]) && same(actual[i].scales[s], expected[i].scales[s]);
      }
      if (equal) continue;
      failures++;
      std::printf("%s%s: tensor %zu differs from the CPU's\n", name, quantized ? ", 8 bits" : "", i);
    }
  }
}

}  // namespace

int checkOptimizers() {
  const TorchAdamWRule<false> torch{2.f, -1e-1f, 0.99f, 0.1f, 0.99f, 0.01f, 0.3f, 1e-8f};
  check("PyTorch's AdamW", torch, torch.kLanes);  // on the CPU the last elements are another order's
  check("AdamW", AdamWRule{0.5f, 1e-2f, 0.99f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.3f});
  check("Lion", LionRule{0.5f, 1e-2f, 0.99f, 0.9f, 0.99f});
  check("AdEMAMix", AdEMAMixRule{0.5f, 1e-2f, 0.99f, 0.9f, 0.99f, 0.999f, 5.f, 1e-8f, 0.1f, 0.3f});
  check("SGD", SGDRule<false>{0.5f, 1e-2f, 0.1f, 0.f, 0.f, false});
  for (const bool nesterov : {false, true}) check("SGD, momentum", SGDRule<true>{0.5f, 1e-2f, 0.1f, 0.9f, 0.1f, nesterov});
  check("RMSprop", RMSpropRule<false, false>{0.5f, 1e-2f, 0.1f, 0.9f, 1e-3f, 0.f});
  check("RMSprop, momentum", RMSpropRule<false, true>{0.5f, 1e-2f, 0.1f, 0.9f, 1e-3f, 0.9f});
  check("RMSprop, centered", RMSpropRule<true, false>{0.5f, 1e-2f, 0.1f, 0.9f, 1e-3f, 0.f});
  check("RMSprop, centered, momentum", RMSpropRule<true, true>{0.5f, 1e-2f, 0.1f, 0.9f, 1e-3f, 0.9f});
  check("Adagrad", AdagradRule{0.5f, 1e-2f, 0.1f, 1e-10f});
  return failures;
}
