// Optimizer updates of many tensors. What a kernel needs to know of the tensors comes with its parameters, of which there
// are at most 4 KiB: a few dozen tensors in one launch, and no table that would have to be copied to the device.
#include "device.cuh"

namespace slimtune::cuda {
namespace {

constexpr int kThreads = kQuantizedBlock;
constexpr int64_t kChunk = 16 * kThreads;  // elements of a block of threads
constexpr size_t kParameterBytes = 4096;

/// Some tensors, cut into chunks; firstChunk[i] counts those of the tensors before.
template <int kTensors>
struct Batch {
  UpdatedTensor tensors[kTensors];
  uint32_t firstChunk[kTensors];
  int count;

  /// The tensor of this block of threads, and the place at which its chunk begins.
  __device__ const UpdatedTensor& own(int64_t& begin) const {
    int i = count - 1;
    while (blockIdx.x < firstChunk[i]) i--;
    begin = static_cast<int64_t>(blockIdx.x - firstChunk[i]) * kChunk;
    return tensors[i];
  }
};

/// Whether a weight and its states are finite; what a rule lacks is 0.
__device__ inline bool allFinite(float p, const float* state) {
  bool finite = isfinite(p);
#pragma unroll
  for (int s = 0; s < kMostStates; s++) finite = finite && isfinite(state[s]);
  return finite;
}

template <class Rule, int kTensors>
__global__ void updateKernel(Rule rule, float* nonfinite, Batch<kTensors> batch) {
  int64_t begin;
  const UpdatedTensor& tensor = batch.own(begin);
  const int64_t end = tensor.count < begin + kChunk ? tensor.count : begin + kChunk;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    float state[kMostStates] = {};
#pragma unroll
    for (int s = 0; s < Rule::kStates; s++) state[s] = static_cast<const float*>(tensor.states[s])[i];
    float p = tensor.parameter[i];
    rule.element(p, tensor.gradient[i], state);
    tensor.parameter[i] = p;
    if (!allFinite(p, state)) *nonfinite = 1.f;
#pragma unroll
    for (int s = 0; s < Rule::kStates; s++) static_cast<float*>(tensor.states[s])[i] = state[s];
  }
}

/// A map from codes to values and back, in shared memory.
struct Map {
  float value[256], middle[256];  // a middle between each value and the next

  __device__ void load(const float* values) {
    const unsigned i = threadIdx.x;
    value[i] = values[i];
    middle[i] = i + 1 < 256 ? (values[i] + values[i + 1]) / 2.f : INFINITY;
  }
  /// How many middles lie below: the nearest value's code, the lower of two as near; 0 for NaN.
  __device__ int nearest(float x) const {
    int code = 0;
#pragma unroll
    for (int step = 128; step > 0; step /= 2) code += middle[code + step - 1] < x ? step : 0;
    return code;
  }
};

/// One element for each thread, one block of codes at a time.
template <class Rule, int kTensors>
__global__ void update8bitKernel(Rule rule, CodeValues values, float* nonfinite, Batch<kTensors> batch) {
  __shared__ Map maps[2];
  maps[0].load(values.withoutSign);
  maps[1].load(values.withSign);
  __syncthreads();
  int64_t begin;
  const UpdatedTensor& tensor = batch.own(begin);
  const int zero = maps[1].nearest(0.f);
  for (int64_t start = begin; start < begin + kChunk && start < tensor.count; start += kThreads) {
    const int64_t i = start + threadIdx.x, block = start / kQuantizedBlock;
    const bool inside = i < tensor.count;
    float state[kMostStates] = {};
    if (inside) {
#pragma unroll
      for (int s = 0; s < Rule::kStates; s++) {
        const uint8_t code = static_cast<const uint8_t*>(tensor.states[s])[i];
        state[s] = maps[Rule::hasSign(s)].value[code] * tensor.scales[s][block];
      }
      const float gradient = tensor.gradient[i];
      if (isfinite(gradient)) {
        float p = tensor.parameter[i];
        rule.element(p, gradient, state);
        tensor.parameter[i] = p;
        if (!allFinite(p, state)) *nonfinite = 1.f;
      } else {
        for (float& value : state) value = 0.f;
      }
    }
#pragma unroll
    for (int s = 0; s < Rule::kStates; s++) {
      const Map& map = maps[Rule::hasSign(s)];
      const float magnitude = fabsf(state[s]);
      const float scale = overBlock<Max>(magnitude > 0.f ? magnitude : 0.f);  // NaN counts for nothing
      if (threadIdx.x == 0) tensor.scales[s][block] = scale;
      if (!inside) continue;
      const int code = map.nearest(state[s] * (1.f / (scale > 1e-38f ? scale : 1e-38f)));
      const bool below = Rule::hasSign(s) && code == zero && state[s] < 0.f;  // a negative value never becomes zero
      static_cast<uint8_t*>(tensor.states[s])[i] = static_cast<uint8_t>(code - (below ? 1 : 0));
    }
  }
}

/// Calls body(batch, chunks) with as many tensors at a time as fit beside the kernel's other parameters.
template <size_t kOtherBytes, typename Body>
void eachBatch(const UpdatedTensor* tensors, int64_t count, const Body& body) {
  constexpr int kTensors = (kParameterBytes - kOtherBytes - 64) / (sizeof(UpdatedTensor) + sizeof(uint32_t));
  static_assert(sizeof(Batch<kTensors>) + kOtherBytes <= kParameterBytes);
  Batch<kTensors> batch;
  batch.count = 0;
  int64_t chunks = 0;
  for (int64_t i = 0; i < count; i++) {
    if (tensors[i].count > 0) {
      batch.tensors[batch.count] = tensors[i];
      batch.firstChunk[batch.count++] = static_cast<uint32_t>(chunks);
      chunks += (tensors[i].count + kChunk - 1) / kChunk;
    }
    if (batch.count == 0 || (batch.count < kTensors && i + 1 < count)) continue;
    body(batch, dim3(static_cast<unsigned>(chunks)));
    batch.count = 0;
    chunks = 0;
  }
}

}  // namespace

template <class Rule>
void optimizerStep(const Rule& rule, const UpdatedTensor* tensors, int64_t count, float* nonfinite, cudaStream_t stream) {
  eachBatch<sizeof(Rule) + sizeof(nonfinite)>(tensors, count, [&](const auto& batch, dim3 chunks) {
    launch(updateKernel<Rule, sizeof(batch.firstChunk) / sizeof(uint32_t)>, chunks, kThreads, stream, rule, nonfinite, batch);
  });
}

template <class Rule>
void optimizerStep8bit(const Rule& rule, const CodeValues& values, const UpdatedTensor* tensors, int64_t count,
                       float* nonfinite, cudaStream_t stream) {
  eachBatch<sizeof(Rule) + sizeof(CodeValues) + sizeof(nonfinite)>(tensors, count, [&](const auto& batch, dim3 chunks) {
    launch(update8bitKernel<Rule, sizeof(batch.firstChunk) / sizeof(uint32_t)>, chunks, kThreads, stream, rule, values,
           nonfinite, batch);
  });
}

#define SLIMTUNE_INSTANTIATE(...)                                                                                   \
  template void optimizerStep(const __VA_ARGS__&, const UpdatedTensor*, int64_t, float*, cudaStream_t);             \
  template void optimizerStep8bit(const __VA_ARGS__&, const CodeValues&, const UpdatedTensor*, int64_t, float*, cudaStream_t);
SLIMTUNE_EACH_RULE(SLIMTUNE_INSTANTIATE)

}  // namespace slimtune::cuda
