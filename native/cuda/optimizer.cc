// The optimizers' ops on CUDA tensors.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../src/dynamic_map.h"
#include "../src/optimizer_ops.h"
#include "kernels.h"

namespace slimtune::cuda {
namespace {

const CodeValues& codeValues() {
  static const CodeValues values = [] {
    CodeValues result;
    std::copy_n(DynamicMap::withoutSign().values().begin(), 256, result.withoutSign);
    std::copy_n(DynamicMap::withSign().values().begin(), 256, result.withSign);
    return result;
  }();
  return values;
}

struct Cuda {
  template <class Rule>
  static void step(const Rule& rule, const UpdateTensors& tensors) {
    const c10::cuda::CUDAGuard guard(tensors.parameters[0].device());
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
    std::vector<UpdatedTensor> updated(tensors.parameters.size());
    for (size_t i = 0; i < updated.size(); i++) {
      updated[i].parameter = tensors.parameters[i].data_ptr<float>();
      updated[i].gradient = tensors.gradients[i].const_data_ptr<float>();
      updated[i].count = tensors.parameters[i].numel();
      for (int s = 0; s < Rule::kStates; s++) {
        updated[i].states[s] = tensors.state(i, s).data_ptr();
        if (!tensors.scales.empty()) updated[i].scales[s] = tensors.scale(i, s).data_ptr<float>();
      }
    }
    const auto count = static_cast<int64_t>(updated.size());
    float* const nonfinite = tensors.nonfinite.data_ptr<float>();
    if (tensors.scales.empty()) {
      optimizerStep(rule, updated.data(), count, nonfinite, stream);
    } else {
      optimizerStep8bit(rule, codeValues(), updated.data(), count, nonfinite, stream);
    }
  }
};

TORCH_LIBRARY_IMPL(slimtune, CUDA, library) {
  OptimizerOps<Cuda>::implement(library);
  library.impl("torch_adamw_step_", OptimizerOps<Cuda>::torchAdamW);
}

}  // namespace
}  // namespace slimtune::cuda
