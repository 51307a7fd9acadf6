// slimtune::…_step_ on the CPU, in one parallel pass over all parameters, and as a composition of ATen's ops for devices
// without kernels of their own.
#include <ATen/Parallel.h>

#include <atomic>

#include "optimizer_ops.h"
#include "quantized_update.h"

namespace slimtune {
namespace {

constexpr int64_t kChunk = 64 * kQuantizedBlock;  // elements that a thread takes at a time

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

/// Returns whether all that it made is finite.
template <class Rule>
bool updateChunk(const Rule& rule, const UpdateTensors& tensors, const Chunk& chunk) {
  float* p = tensors.parameters[chunk.tensor].data_ptr<float>();
  const float* g = tensors.gradients[chunk.tensor].data_ptr<float>();
  if (tensors.scales.empty()) {
    float* states[kMostStates];
    for (int s = 0; s < Rule::kStates; s++) states[s] = tensors.state(chunk.tensor, s).data_ptr<float>() + chunk.begin;
    return update(rule, p + chunk.begin, g + chunk.begin, states, chunk.end - chunk.begin);
  }
  bool finite = true;
  for (int64_t at = chunk.begin; at < chunk.end; at += kQuantizedBlock) {
    uint8_t* codes[kMostStates];
    float* scales[kMostStates];
    for (int s = 0; s < Rule::kStates; s++) {
      codes[s] = tensors.state(chunk.tensor, s).data_ptr<uint8_t>() + at;
      scales[s] = tensors.scale(chunk.tensor, s).data_ptr<float>() + at / kQuantizedBlock;
    }
    finite &= updateQuantized(rule, p + at, g + at, codes, scales, std::min(kQuantizedBlock, chunk.end - at));
  }
  return finite;
}

struct Cpu {
  template <class Rule>
  static void step(const Rule& rule, const UpdateTensors& tensors) {
    const std::vector<Chunk> chunks = chunksOf(tensors.parameters);
    std::atomic<bool> finite = true;
    at::parallel_for(0, static_cast<int64_t>(chunks.size()), 1, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; c++) {
        if (!updateChunk(rule, tensors, chunks[static_cast<size_t>(c)])) finite = false;
      }
    });
    if (!finite) *tensors.nonfinite.data_ptr<float>() = 1.f;
  }
};

/// A map's values on a device, and the 8-bit states of one parameter through it: codes and scales as the CPU's.
class ComposedMap {
 public:
  ComposedMap(const DynamicMap& map, bool sign, at::Device device) : sign_(sign) {
    const std::array<float, 256>& values = map.values();
    const at::Tensor onCpu = at::from_blob(const_cast<float*>(values.data()), {256}, at::kFloat);
    values_ = onCpu.to(device, false, true);
    middles_ = ((onCpu.slice(0, 0, 255) + onCpu.slice(0, 1)) / 2.f).to(device);
    zero_ = static_cast<int64_t>(std::find(values.begin(), values.end(), 0.f) - values.begin());
  }
  /// codes [n], scales [blocks] -> [n]
  at::Tensor decode(const at::Tensor& codes, const at::Tensor& scales) const {
    const at::Tensor each = scales.unsqueeze(1).expand({-1, kQuantizedBlock}).reshape(-1).slice(0, 0, codes.numel());
    return values_.index_select(0, codes.to(at::kInt)) * each;
  }
  void encode(const at::Tensor& values, const at::Tensor& codes, const at::Tensor& scales) const {
    const int64_t count = values.numel();
    const at::Tensor blocks = at::constant_pad_nd(values, {0, scales.numel() * kQuantizedBlock - count}).view({-1, kQuantizedBlock});
    const at::Tensor largest = blocks.abs().nan_to_num(0., INFINITY).amax(1);
    const at::Tensor scaled = (blocks * at::clamp_min(largest, 1e-38f).reciprocal().unsqueeze(1)).view(-1).slice(0, 0, count);
    at::Tensor nearest = at::bucketize(scaled, middles_, true);
    if (sign_) nearest = nearest - at::logical_and(nearest == zero_, values < 0).to(at::kInt);
    codes.copy_(nearest);
    scales.copy_(largest);
  }

 private:
  bool sign_;
  at::Tensor values_, middles_;
  int64_t zero_;
};

/// One parameter after the other, in temporaries of its size.
struct Composition {
  template <class Rule>
  static void step(const Rule& rule, const UpdateTensors& tensors) {
    const at::Device device = tensors.parameters[0].device();
    const ComposedMap maps[] = {{DynamicMap::withoutSign(), false, device}, {DynamicMap::withSign(), true, device}};
    for (size_t i = 0; i < tensors.parameters.size(); i++) {
      if (tensors.parameters[i].numel() == 0) continue;
      const at::Tensor before = tensors.parameters[i].view(-1), gradient = tensors.gradients[i].view(-1);
      at::Tensor p = before, states[kMostStates];
      for (int s = 0; s < Rule::kStates; s++) {
        const at::Tensor stored = tensors.state(i, s).view(-1);
        states[s] = tensors.scales.empty() ? stored : maps[Rule::hasSign(s)].decode(stored, tensors.scale(i, s).view(-1));
      }
      rule.element(p, gradient, states);
      if (tensors.scales.empty()) {
        for (int s = 0; s < Rule::kStates; s++) tensors.state(i, s).view(-1).copy_(states[s]);
      } else {
        const at::Tensor finite = at::isfinite(gradient);
        p = at::where(finite, p, before);
        for (int s = 0; s < Rule::kStates; s++) {
          maps[Rule::hasSign(s)].encode(at::where(finite, states[s], 0.f), tensors.state(i, s).view(-1), tensors.scale(i, s).view(-1));
        }
      }
      before.copy_(p);
    }
    noteNonfinite(tensors.nonfinite, {tensors.parameters, tensors.scales.empty() ? tensors.states : tensors.scales});
  }
};

/// LibTorch's fused AdamW itself, which every device has.
void composedTorchAdamW(at::TensorList self, at::TensorList gradients, at::TensorList states,
                        const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, int64_t step,
                        double beta1, double beta2, double eps) {
  checkUpdate({self, gradients, states, {}, nonfinite}, 2);
  if (self.empty()) return;
  const at::Tensor count = at::full({}, static_cast<double>(step), self[0].options());
  const at::Tensor divisor = at::full({}, 1 / gradientScale, self[0].options());
  at::_fused_adamw_(self, gradients, states.slice(0, self.size()), states.slice(self.size()), {},
                    std::vector<at::Tensor>(self.size(), count), lr, beta1, beta2, weightDecay, eps, /*amsgrad=*/false,
                    /*maximize=*/false, divisor);
  noteNonfinite(nonfinite, {self, states});
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  const std::string lists = "(Tensor(a!)[] self, Tensor[] gradients, Tensor(b!)[] states, ";
  const std::string scales = "Tensor(c!)[] scales, ";
  const std::string rates = "Tensor(d!) nonfinite, float gradient_scale, float lr, float weight_decay, ";
  const auto define = [&](const std::string& schema) { library.def(schema.c_str()); };
  define("torch_adamw_step_" + lists + rates + "int step, float beta1, float beta2, float eps) -> ()");
  define("adamw_step_" + lists + scales + rates + "int step, float beta1, float beta2, float eps) -> ()");
  define("lion_step_" + lists + scales + rates + "float beta1, float beta2) -> ()");
  define("ademamix_step_" + lists + scales + rates +
         "int step, float beta1, float beta2, float beta3, float alpha, float eps) -> ()");
  define("sgd_step_" + lists + rates + "float momentum, float dampening, bool nesterov) -> ()");
  define("rmsprop_step_" + lists + scales + rates + "float alpha, float eps, float momentum, bool centered) -> ()");
  define("adagrad_step_" + lists + rates + "float eps) -> ()");
}

TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  OptimizerOps<Cpu>::implement(library);
  library.impl("torch_adamw_step_", OptimizerOps<Cpu>::torchAdamW);
}
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) {
  OptimizerOps<Composition>::implement(library);
  library.impl("torch_adamw_step_", composedTorchAdamW);
}

}  // namespace
}  // namespace slimtune
