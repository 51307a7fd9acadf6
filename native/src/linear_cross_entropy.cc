// slimtune::linear_cross_entropy: the last projection, the softmax over the vocabulary and the loss as one op.
//
// The vocabulary is gone through in blocks: a block of logits, its exponentials, and at once their product with the same
// block of the weight, which is the gradient of the input but for a factor by row that is known at the end. So each block
// of the weight is read (and widened) once, and no [L, V] tensor exists. The gradients are made in the forward pass; the
// backward pass only scales them. Where a weight is trained, the exponentials of some rows at a time are kept for its
// gradient, in which those factors go to the input's rows.
#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRows = 1024;  // at once, where no weight is trained

struct Sizes {
  int64_t weightBlock;  // elements of weight to a block
  int64_t kept;         // exponentials kept, where a weight is trained
};
constexpr Sizes kCpuSizes{1 << 20, 1 << 24};   // 4 MiB in float32, which stay in the cache; 64 MiB
constexpr Sizes kGpuSizes{1 << 26, 1 << 27};   // few large products; 512 MiB

/// out = a · b, or out += a · b; the product is rounded to the factors' dtype if that is narrower than out's.
void multiply(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) {
  if (a.scalar_type() != out.scalar_type()) {
    const at::Tensor product = at::mm(a, b);
    add ? out.add_(product) : out.copy_(product);
  } else if (add) {
    out.addmm_(a, b);
  } else {
    at::mm_out(out, a, b);
  }
}

void expBlock(const at::Tensor& logits, const at::Tensor& targets, int64_t first, const at::Tensor& statistics,
              at::TensorList sums, double cap) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("slimtune::_exp_block_", "").typed<decltype(expBlock)>();
  op.call(logits, targets, first, statistics, sums, cap);
}

/// The targets as indices that are safe to use. A wrong one is told on the CPU at once; elsewhere nobody waits for it, and
/// the loss becomes NaN.
at::Tensor checkedTargets(const at::Tensor& targets, int64_t classes, const at::Tensor& loss) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("slimtune::_checked_targets", "").typed<decltype(checkedTargets)>();
  return op.call(targets, classes, loss);
}

at::Tensor checkedOnCpu(const at::Tensor& targets, int64_t classes, const at::Tensor&) {
  if (targets.numel() > 0) {
    TORCH_CHECK(targets.min().item<int64_t>() >= 0 && targets.max().item<int64_t>() < classes, "a target is not one of the ",
                classes, " classes");
  }
  return targets.contiguous();
}

at::Tensor checkedElsewhere(const at::Tensor& targets, int64_t classes, const at::Tensor& loss) {
  const at::Tensor right = targets.ge(0).logical_and(targets.lt(classes)).all();
  at::Tensor(loss).add_(at::where(right, 0., std::numeric_limits<double>::quiet_NaN()));
  return targets.clamp(0, classes - 1);
}

/// One call: logits = Σ inputsᵢ · weightsᵢᵀ, [L, V]; with a soft cap c, c·tanh(logits/c).
class LinearCrossEntropy {
 public:
  variable_list inputs;   // [L, Kᵢ], of one dtype, the arithmetic's
  variable_list weights;  // [V, Kᵢ], of any dtype
  at::Tensor targets;     // [L]
  double smoothing = 0, scale = 1, cap = 0;
  bool inputGradients = false;
  std::vector<bool> weightGradients;
  // Results:
  at::Tensor loss;
  variable_list dInputs, dWeights;  // undefined where not asked for

  void run() {
    const int64_t rows = targets.size(0);
    const Sizes sizes = targets.is_cpu() ? kCpuSizes : kGpuSizes;
    keep_ = std::find(weightGradients.begin(), weightGradients.end(), true) != weightGradients.end();
    wide_ = inputs[0].options().dtype(at::toOpMathType(inputs[0].scalar_type()));
    classes_ = weights[0].size(0);
    int64_t width = 0;
    for (const at::Tensor& input : inputs) width += input.size(1);
    block_ = std::min(classes_, std::max<int64_t>(64, sizes.weightBlock / std::max<int64_t>(1, width)));
    loss = at::zeros({}, wide_);
    targets = checkedTargets(targets, classes_, loss);
    for (size_t i = 0; i < inputs.size(); i++) {
      if (smoothing > 0 && cap == 0) weightSums_.push_back(weights[i].sum(0, false, wide_.dtype().toScalarType()));
      dInputs.push_back(inputGradients ? at::empty_like(inputs[i]) : at::Tensor());
      dWeights.push_back(weightGradients[i] ? at::zeros(weights[i].sizes(), wide_) : at::Tensor());
    }
    const int64_t step = keep_ ? std::max<int64_t>(64, sizes.kept / classes_) : kRows;
    for (int64_t begin = 0; begin < rows; begin += step) addRows(begin, std::min(step, rows - begin));
    for (size_t i = 0; i < weights.size(); i++)
      if (weightGradients[i]) dWeights[i] = dWeights[i].to(weights[i].scalar_type());
  }

 private:
  int64_t classes_ = 0, block_ = 0;
  bool keep_ = false;
  at::TensorOptions wide_;
  variable_list weightSums_;  // [Kᵢ], over the classes

  void addRows(int64_t begin, int64_t count) {
    const at::Tensor target = targets.narrow(0, begin, count);
    variable_list x, sums;  // sums: Σ exp · weight, [R, Kᵢ]
    for (const at::Tensor& input : inputs) {
      x.push_back(input.narrow(0, begin, count));
      if (inputGradients) sums.push_back(at::zeros({count, input.size(1)}, wide_));
    }
    at::Tensor statistics = at::zeros({3, count}, wide_);
    statistics[0].fill_(-std::numeric_limits<double>::infinity());
    const at::Tensor buffer = at::empty({count, keep_ ? classes_ : block_}, wide_);
    CappedSmoothing smoothed = cap > 0 && smoothing > 0 ? cappedSmoothing(x) : CappedSmoothing{};
    variable_list mostAfter;  // of each block
    for (int64_t first = 0; first < classes_; first += block_) {
      const int64_t length = std::min(block_, classes_ - first);
      at::Tensor exps = buffer.narrow(1, keep_ ? first : 0, length);  // [R, block]
      variable_list rows;                                             // of the weights, [block, Kᵢ]
      for (size_t i = 0; i < x.size(); i++) {
        rows.push_back(weights[i].narrow(0, first, length).to(x[i].scalar_type()));
        multiply(exps, x[i], rows[i].t(), i > 0);
      }
      if (smoothed.logits.defined()) addSmoothing(smoothed, x, rows, exps, first);
      expBlock(exps, target, first, statistics, sums, cap);
      if (keep_) mostAfter.push_back(statistics[0].clone());
      if (!inputGradients) continue;
      const at::Tensor factor = exps.to(x[0].scalar_type());
      for (size_t i = 0; i < x.size(); i++) multiply(sums[i], factor, rows[i], true);
    }

    const at::Tensor most = statistics[0], others = statistics[1], targetLogit = statistics[2];  // [R]
    const at::Tensor total = others + (targetLogit - most).exp();
    at::Tensor losses = most + total.log() - targetLogit * (1 - smoothing);
    for (size_t i = 0; i < weightSums_.size(); i++)
      losses -= x[i].to(weightSums_[i].scalar_type()).mv(weightSums_[i]) * (smoothing / classes_);  // ε · the mean logit
    if (smoothed.logits.defined()) losses -= smoothed.logits * (smoothing / classes_);
    loss += losses.sum() * scale;

    // d loss / d logit = p - (1 - ε)·[target] - ε/V, where the target's p is 1 - others / total
    at::Tensor onTarget = (smoothing - others / total) * scale;  // [R]
    if (cap > 0) onTarget.mul_(1 - at::square(targetLogit / cap));
    for (size_t i = 0; i < sums.size(); i++) {
      at::Tensor& d = sums[i].mul_((scale / total).unsqueeze(1));
      d.addcmul_(weights[i].index_select(0, target).to(wide_.dtype()), onTarget.unsqueeze(1));
      if (smoothing > 0) d.sub_(cap > 0 ? smoothed.sums[i] : weightSums_[i], scale * smoothing / classes_);
      dInputs[i].narrow(0, begin, count).copy_(d);
    }
    for (size_t i = 0; i < x.size(); i++) {
      if (!weightGradients[i]) continue;
      const at::Tensor input = x[i].to(wide_.dtype());
      for (size_t b = 0; b < mostAfter.size(); b++) {
        const int64_t first = static_cast<int64_t>(b) * block_, length = std::min(block_, classes_ - first);
        const at::Tensor byRow = (mostAfter[b] - most).exp() * (scale / total);
        at::Tensor d = dWeights[i].narrow(0, first, length);
        const at::Tensor exps = buffer.narrow(1, first, length).to(x[i].scalar_type());
        multiply(d, exps.t(), (input * byRow.unsqueeze(1)).to(x[i].scalar_type()), true);
      }
      dWeights[i].index_add_(0, target, input * onTarget.unsqueeze(1));
      if (smoothing > 0 && cap == 0) dWeights[i].sub_(input.sum(0), scale * smoothing / classes_);
    }
  }

  /// Under a soft cap the mean logit's gradient depends on each logit's slope: sums over the classes, of the capped logits
  /// [R] and of slope · weight [R, Kᵢ].
  struct CappedSmoothing {
    at::Tensor logits;
    variable_list sums;
  };

  CappedSmoothing cappedSmoothing(const variable_list& x) const {
    CappedSmoothing made{at::zeros({x[0].size(0)}, wide_), {}};
    for (const at::Tensor& input : x) made.sums.push_back(inputGradients ? at::zeros(input.sizes(), wide_) : at::Tensor());
    return made;
  }

  /// Adds a block of classes, whose logits have no cap yet; `rows` are of the weights, [block, Kᵢ].
  void addSmoothing(CappedSmoothing& to, const variable_list& x, const variable_list& rows, const at::Tensor& logits,
                    int64_t first) {
    const at::Tensor share = (logits / cap).tanh_();  // [R, block]
    to.logits.add_(share.sum(1), cap);
    const at::Tensor slope = (1 - at::square(share)).to(x[0].scalar_type());
    for (size_t i = 0; i < x.size(); i++) {
      if (inputGradients) multiply(to.sums[i], slope, rows[i], true);
      if (!weightGradients[i]) continue;
      at::Tensor d = dWeights[i].narrow(0, first, slope.size(1));
      multiply(d, slope.t(), x[i] * (-scale * smoothing / static_cast<double>(classes_)), true);
    }
  }
};

struct LinearCrossEntropyFunction : torch::autograd::Function<LinearCrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, at::TensorList weights,
                            const at::Tensor& targets, double smoothing, double scale, double cap, bool recorded) {
    at::AutoDispatchBelowADInplaceOrView below;
    LinearCrossEntropy call;
    call.inputs = inputs.vec(), call.weights = weights.vec(), call.targets = targets;
    call.smoothing = smoothing, call.scale = scale, call.cap = cap;
    for (const at::Tensor& input : inputs) call.inputGradients |= recorded && input.requires_grad();
    for (const at::Tensor& weight : weights) call.weightGradients.push_back(recorded && weight.requires_grad());
    call.run();
    variable_list gradients = call.dInputs;
    gradients.insert(gradients.end(), call.dWeights.begin(), call.dWeights.end());
    context->saved_data["gradients"] = gradients;
    return call.loss;
  }
  static variable_list backward(AutogradContext* context, variable_list incoming) {
    // Taken out of the context: they are scaled where they lie, and autograd may keep them without a copy.
    const auto found = context->saved_data.find("gradients");
    TORCH_CHECK(found != context->saved_data.end(), "linear_cross_entropy has one backward pass, and this is the second");
    variable_list gradients = found->second.toTensorVector();
    context->saved_data.erase(found);
    for (at::Tensor& gradient : gradients)
      if (gradient.defined()) gradient.mul_(incoming[0]);
    gradients.resize(gradients.size() + 5);  // targets, smoothing, scale, cap, recorded
    return gradients;
  }
};

bool isComputed(const at::Tensor& x) {
  const auto dtype = x.scalar_type();
  return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf;
}

at::Tensor linearCrossEntropy(at::TensorList inputs, at::TensorList weights, const at::Tensor& targets, double smoothing,
                              double scale, double softcap) {
  TORCH_CHECK(!inputs.empty() && inputs.size() == weights.size(), "expected as many weights as inputs, got ",
              weights.size(), " and ", inputs.size());
  TORCH_CHECK(targets.dim() == 1 && targets.scalar_type() == at::kLong, "expected targets [L] of int64, got ",
              targets.sizes(), " of ", targets.scalar_type());
  for (size_t i = 0; i < inputs.size(); i++) {
    const at::Tensor &x = inputs[i], &weight = weights[i];
    TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1) && x.size(0) == targets.size(0) &&
                    weight.size(0) == weights[0].size(0) && weight.size(0) > 0,
                "expected inputs [L, K], weights [V, K] and targets [L], got ", x.sizes(), ", ", weight.sizes(), " and ",
                targets.sizes());
    TORCH_CHECK(isComputed(x) && isComputed(weight) && x.scalar_type() == inputs[0].scalar_type(),
                "inputs must be of one dtype, and they and weights of float32, float64, bfloat16 or float16");
    TORCH_CHECK(x.device() == targets.device() && weight.device() == targets.device(), "tensors on different devices");
  }
  TORCH_CHECK(smoothing >= 0 && smoothing <= 1, "the smoothing, ", smoothing, ", must be between 0 and 1");
  TORCH_CHECK(softcap >= 0 && std::isfinite(softcap), "the soft cap, ", softcap, ", must be 0 (none) or above");
  return LinearCrossEntropyFunction::apply(inputs, weights, targets, smoothing, scale, softcap, at::GradMode::is_enabled());
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def(
      "linear_cross_entropy(Tensor[] inputs, Tensor[] weights, Tensor targets, float smoothing, float scale, "
      "float softcap=0.) -> Tensor");
  library.impl("linear_cross_entropy", c10::DispatchKey::CompositeImplicitAutograd, linearCrossEntropy);
  library.def("_checked_targets(Tensor targets, int classes, Tensor(a!) loss) -> Tensor");
  library.impl("_checked_targets", c10::DispatchKey::CPU, checkedOnCpu);
  library.impl("_checked_targets", c10::DispatchKey::CompositeExplicitAutograd, checkedElsewhere);
}

}  // namespace
}  // namespace slimtune
