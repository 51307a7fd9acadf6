// slimtune::packed_attention: causal attention within each of several sequences that lie end to end.
//
// softmax(q·kᵀ·scale)·v for blocks of queries against the keys they see, with or without a sliding window and a soft cap on
// the scores. Only the logarithm of each row's sum is kept for the
// backward pass, which computes the scores again. The autograd function calls two ops that a device implements.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>
#include <numeric>

#include "attention_kernel.h"
#include "gpu_attention.h"

namespace slimtune {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Long sequences are split so that there is work for many threads; the split does not depend on their number, and so
/// nor does the result.
constexpr int64_t kPiecePositions = 256;
constexpr int64_t kMostPieces = 4;  // their partial dk and dv take 2.5 times the memory of dk and dv

/// All pieces, those of each sequence and key head together.
std::vector<AttentionPiece> piecesOf(at::IntArrayRef lengths, int64_t window, int64_t kvHeads, int64_t dim) {
  std::vector<AttentionPiece> pieces;
  int64_t start = 0, partial = 0;
  for (const int64_t length : lengths) {
    const int64_t step = std::max(kPiecePositions, (length + kMostPieces - 1) / kMostPieces);
    for (int64_t head = 0; head < kvHeads; head++) {
      for (int64_t begin = 0; begin < length; begin += step) {
        const int64_t end = std::min(begin + step, length);
        pieces.push_back({start, std::max<int64_t>(0, begin - window + 1), begin, end, head, partial});
        partial += 2 * pieces.back().keys() * dim;
      }
    }
    start += length;
  }
  return pieces;
}

/// Runs body(piece, scratch) for each, the biggest first, each thread taking the next when it is free.
template <typename Wide, typename Body>
void forEachPiece(std::vector<AttentionPiece> pieces, int64_t window, int64_t dim, const Body& body) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const AttentionPiece& a, const AttentionPiece& b) { return a.work() > b.work(); });
  int64_t size = 0;  // not that of the most keys: with fewer a block may have more rows
  for (const AttentionPiece& piece : pieces)
    size = std::max(size, attentionScratch(piece.keys(), window, dim, sizeof(Wide)));
  const auto count = static_cast<int64_t>(pieces.size());
  const int64_t workers = std::min<int64_t>(at::get_num_threads(), count);
  const at::Tensor scratch = at::empty({workers, size}, c10::CppTypeToScalarType<Wide>::value);
  Wide* const memory = scratch.data_ptr<Wide>();
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; worker++)
      for (int64_t i = next++; i < count; i = next++) body(pieces[i], memory + worker * size);
  });
}

template <typename Scalar>
AttentionArguments<Scalar> argumentsOf(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& out, const at::Tensor& logSumExp,
                                       const AttentionSpec& spec, int64_t most) {
  using Wide = at::opmath_type<Scalar>;
  AttentionArguments<Scalar> a{};
  a.heads = q.size(1), a.kvHeads = k.size(1), a.dim = q.size(2);
  a.window = most, a.softcap = static_cast<Wide>(spec.softcap);
  a.scale = spec.scale ? static_cast<Wide>(*spec.scale) : 1 / std::sqrt(static_cast<Wide>(a.dim));
  a.qRow = q.stride(0), a.qHead = q.stride(1);
  a.kRow = k.stride(0), a.kHead = k.stride(1);
  a.vRow = v.stride(0), a.vHead = v.stride(1);
  a.q = q.const_data_ptr<Scalar>(), a.k = k.const_data_ptr<Scalar>(), a.v = v.const_data_ptr<Scalar>();
  a.out = out.data_ptr<Scalar>();
  a.logSumExp = logSumExp.data_ptr<at::opmath_type<Scalar>>();
  return a;
}

/// Rows may lie far apart, but each row's D elements together.
at::Tensor denseRows(const at::Tensor& x) { return x.stride(2) == 1 || x.size(2) == 1 ? x : x.contiguous(); }

/// Calls body(Scalar{}) with the C++ type of the dtype.
template <typename Body>
void withScalar(at::ScalarType dtype, const Body& body) {
  switch (dtype) {
    case at::kFloat: return body(float{});
    case at::kDouble: return body(double{});
    case at::kBFloat16: return body(at::BFloat16{});
    case at::kHalf: return body(at::Half{});
    default: TORCH_CHECK(false, "packed_attention is written for float32, bfloat16, float16 and float64, not ", dtype);
  }
}

void check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths,
           const AttentionSpec& spec) {
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.dim() == 3 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
                  q.size(2) == k.size(2),
              "expected q [N, heads, D] and k and v [N, kv heads, D], got ", q.sizes(), ", ", k.sizes(), " and ", v.sizes());
  TORCH_CHECK(q.size(2) > 0 && q.size(1) > 0 && k.size(1) > 0 && q.size(1) % k.size(1) == 0, "the number of heads, ",
              q.size(1), ", must be a multiple of that of the key heads, ", k.size(1), ", and D at least 1");
  TORCH_CHECK(k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type() && k.device() == q.device() &&
                  v.device() == q.device(),
              "q, k and v must be of one dtype and on one device");
  int64_t total = 0;
  for (const int64_t length : lengths) {
    TORCH_CHECK(length >= 0 && length <= q.size(0) - total, "the lengths ", lengths, " do not add up to N, ", q.size(0));
    total += length;
  }
  TORCH_CHECK(total == q.size(0), "the lengths ", lengths, " do not add up to N, ", q.size(0));
  TORCH_CHECK(!spec.scale || std::isfinite(*spec.scale), "the scale must be a finite number, not ", *spec.scale);
  TORCH_CHECK(spec.softcap >= 0 && std::isfinite(spec.softcap), "the softcap must be 0, for none, or a finite number above, not ",
              spec.softcap);
  TORCH_CHECK(spec.window >= 0, "the window must be 0, for none, or a number of keys, not ", spec.window);
}

/// Keys that a query sees at most.
int64_t mostKeys(at::IntArrayRef lengths, int64_t window) {
  int64_t longest = 0;
  for (const int64_t length : lengths) longest = std::max(longest, length);
  return window > 0 ? std::min(window, longest) : longest;
}

/// -> out [N, heads, D] and the logarithm of each row's Σ exp, [N, heads], in float32 (float64 for float64)
/// (Its last two arguments are for GPUs.)
std::tuple<at::Tensor, at::Tensor> forwardCpu(const at::Tensor& q0, const at::Tensor& k0, const at::Tensor& v0,
                                              at::IntArrayRef lengths, const std::optional<at::Tensor>&, bool,
                                              std::optional<double> scale, double softcap, int64_t window) {
  const AttentionSpec spec{scale, softcap, window};
  check(q0, k0, v0, lengths, spec);
  const at::Tensor q = denseRows(q0), k = denseRows(k0), v = denseRows(v0);
  const int64_t most = mostKeys(lengths, window);
  at::Tensor out = at::empty(q.sizes(), q.options());
  at::Tensor logSumExp = at::empty({q.size(0), q.size(1)}, q.options().dtype(at::toOpMathType(q.scalar_type())));
  withScalar(q.scalar_type(), [&](auto scalar) {
    using Scalar = decltype(scalar);
    using Wide = at::opmath_type<Scalar>;
    const auto arguments = argumentsOf<Scalar>(q, k, v, out, logSumExp, spec, most);
    forEachPiece<Wide>(piecesOf(lengths, most, k.size(1), q.size(2)), most, q.size(2),
                       [&](const AttentionPiece& piece, Wide* scratch) { attend(arguments, piece, scratch); });
  });
  return {out, logSumExp};
}

/// Sums the pieces' parts of dk and dv [N, kv heads, D] in their order, in place.
template <typename Scalar, typename Wide>
void sumPartials(const std::vector<AttentionPiece>& pieces, Wide* partials, int64_t kvHeads, int64_t dim, Scalar* dk,
                 Scalar* dv) {
  const auto count = static_cast<int64_t>(pieces.size());
  at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) {
      // A piece owns the keys at its own positions: it and those after it, up to the sequence's end, may have seen them.
      const AttentionPiece& own = pieces[i];
      Wide* const keySums = partials + own.partial + (own.begin - own.first) * dim;  // [end - begin, D]
      Wide* const valueSums = keySums + own.keys() * dim;
      for (int64_t j = i + 1; j < count && pieces[j].begin > 0 && pieces[j].first < own.end; j++) {
        const AttentionPiece& other = pieces[j];
        const int64_t seen = std::max(own.begin, other.first);
        const Wide* const keys = partials + other.partial + (seen - other.first) * dim;
        const Wide* const values = keys + other.keys() * dim;
        const int64_t size = (own.end - seen) * dim, offset = (seen - own.begin) * dim;
        for (int64_t e = 0; e < size; e++) keySums[offset + e] += keys[e];
        for (int64_t e = 0; e < size; e++) valueSums[offset + e] += values[e];
      }
      for (int64_t key = 0; key < own.end - own.begin; key++) {
        const int64_t place = ((own.start + own.begin + key) * kvHeads + own.kvHead) * dim;
        std::transform(keySums + key * dim, keySums + (key + 1) * dim, dk + place, [](Wide x) { return Scalar(x); });
        std::transform(valueSums + key * dim, valueSums + (key + 1) * dim, dv + place, [](Wide x) { return Scalar(x); });
      }
    }
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backwardCpu(const at::Tensor& dOut0, const at::Tensor& q0,
                                                           const at::Tensor& k0, const at::Tensor& v0,
                                                           const at::Tensor& out, const at::Tensor& logSumExp,
                                                           at::IntArrayRef lengths, const std::optional<at::Tensor>&,
                                                           bool, std::optional<double> scale, double softcap,
                                                           int64_t window) {
  const AttentionSpec spec{scale, softcap, window};
  check(q0, k0, v0, lengths, spec);
  const at::Tensor q = denseRows(q0), k = denseRows(k0), v = denseRows(v0), dOut = dOut0.contiguous();
  const int64_t most = mostKeys(lengths, window);
  at::Tensor dq = at::empty(q.sizes(), q.options());
  at::Tensor dk = at::empty(k.sizes(), k.options()), dv = at::empty(k.sizes(), k.options());
  withScalar(q.scalar_type(), [&](auto scalar) {
    using Scalar = decltype(scalar);
    using Wide = at::opmath_type<Scalar>;
    const auto pieces = piecesOf(lengths, most, k.size(1), q.size(2));
    const int64_t size = pieces.empty() ? 0 : pieces.back().partial + 2 * pieces.back().keys() * q.size(2);
    const at::Tensor partials = at::empty({size}, logSumExp.options());
    auto arguments = argumentsOf<Scalar>(q, k, v, out, logSumExp, spec, most);
    arguments.dOut = dOut.const_data_ptr<Scalar>();
    arguments.dq = dq.data_ptr<Scalar>();
    arguments.partials = partials.data_ptr<Wide>();
    forEachPiece<Wide>(pieces, most, q.size(2),
                       [&](const AttentionPiece& piece, Wide* scratch) { attendBackward(arguments, piece, scratch); });
    sumPartials(pieces, arguments.partials, k.size(1), q.size(2), dk.data_ptr<Scalar>(), dv.data_ptr<Scalar>());
  });
  return {dq, dk, dv};
}

std::tuple<at::Tensor, at::Tensor> callForward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               at::IntArrayRef lengths, const std::optional<at::Tensor>& offsets,
                                               bool flash, const AttentionSpec& spec) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("slimtune::_packed_attention_forward", "")
                             .typed<decltype(forwardCpu)>();
  return op.call(q, k, v, lengths, offsets, flash, spec.scale, spec.softcap, spec.window);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> callBackward(const at::Tensor& dOut, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& logSumExp,
                                                            at::IntArrayRef lengths,
                                                            const std::optional<at::Tensor>& offsets, bool flash,
                                                            const AttentionSpec& spec) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("slimtune::_packed_attention_backward", "")
                             .typed<decltype(backwardCpu)>();
  return op.call(dOut, q, k, v, out, logSumExp, lengths, offsets, flash, spec.scale, spec.softcap, spec.window);
}

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            at::IntArrayRef lengths, const std::optional<at::Tensor>& offsets, bool flash,
                            const AttentionSpec& spec) {
    at::AutoDispatchBelowADInplaceOrView below;
    const auto [out, logSumExp] = callForward(q, k, v, lengths, offsets, flash, spec);
    context->save_for_backward({q, k, v, out, logSumExp, offsets.value_or(at::Tensor())});
    context->saved_data["lengths"] = lengths.vec();
    context->saved_data["flash"] = flash;
    context->saved_data["scale"] = spec.scale;
    context->saved_data["softcap"] = spec.softcap;
    context->saved_data["window"] = spec.window;
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const std::vector<int64_t> lengths = data["lengths"].toIntVector();
    const AttentionSpec spec{data["scale"].toOptional<double>(), data["softcap"].toDouble(), data["window"].toInt()};
    const auto [dq, dk, dv] = callBackward(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4], lengths, saved[5],
                                           data["flash"].toBool(), spec);
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// softmax(c·tanh(q·kᵀ·scale / c))·v of one sequence where `seen`, [T, T]; q is [heads, T, D], k and v [kv heads, T, D]. The
/// product is made in their dtype, what follows in float32 at least.
at::Tensor cappedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen,
                           const AttentionSpec& spec) {
  const int64_t length = q.size(1), dim = q.size(2);
  const at::ScalarType wide = at::toOpMathType(q.scalar_type());
  const double scale = spec.scale.value_or(1 / std::sqrt(static_cast<double>(dim)));
  const at::Tensor queries = q.reshape({k.size(0), -1, dim});  // heads of a group, one's positions after the other's
  const at::Tensor scores = at::matmul(queries, k.transpose(1, 2)).to(wide) * (scale / spec.softcap);
  const at::Tensor capped = (scores.tanh() * spec.softcap).view({-1, length, length}).masked_fill(~seen, -INFINITY);
  return at::matmul(capped.softmax(-1).to(v.scalar_type()).view(scores.sizes()), v).view(q.sizes());
}

/// One sequence after another by PyTorch's own ops, with their gradients: [N, heads·D].
at::Tensor composed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths,
                    std::optional<double> scale, double softcap, int64_t window) {
  const AttentionSpec spec{scale, softcap, window};
  const bool grouped = q.size(1) != k.size(1);
  std::vector<at::Tensor> parts;
  int64_t start = 0;
  for (const int64_t length : lengths) {
    if (length == 0) continue;
    const auto sequence = [&](const at::Tensor& x) { return x.narrow(0, start, length).transpose(0, 1); };
    const bool windowed = spec.window > 0 && spec.window < length;
    at::Tensor seen;  // what is_causal does not say
    if (windowed || spec.softcap > 0) {
      seen = at::ones({length, length}, q.options().dtype(at::kBool)).tril();
      if (windowed) seen = seen.triu(1 - spec.window);
    }
    at::Tensor y;
    if (spec.softcap > 0) {
      y = cappedAttention(sequence(q), sequence(k), sequence(v), seen, spec);
    } else {
      const auto one = [&](const at::Tensor& x) { return sequence(x).unsqueeze(0); };
      const std::optional<at::Tensor> mask = windowed ? std::optional(seen) : std::nullopt;
      y = at::scaled_dot_product_attention(one(q), one(k), one(v), mask, 0, !windowed, spec.scale, grouped).squeeze(0);
    }
    parts.push_back(y.transpose(0, 1).reshape({length, -1}));
    start += length;
  }
  return parts.empty() ? q.flatten(1) : at::cat(parts);
}

/// @param offsets what sequenceOffsets gives, for GPUs: layers share it
/// @param scale of the scores; 1/√D when left out
/// @param softcap c > 0: scores become c·tanh(scores / c) before the softmax, as in Gemma 2
/// @param window w > 0: a query at position i sees the keys at i - w + 1 to i; 0: all up to its own
at::Tensor packedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths,
                           const std::optional<at::Tensor>& offsets, std::optional<double> scale, double softcap,
                           int64_t window) {
  AttentionSpec spec{scale, softcap, window};
  check(q, k, v, lengths, spec);
  if (window >= mostKeys(lengths, 0)) spec.window = 0;
  const bool given = offsets && offsets->defined();
  if (given) {
    TORCH_CHECK(offsets->scalar_type() == at::kInt && offsets->is_contiguous() && offsets->device() == q.device() &&
                    offsets->dim() == 1 && offsets->numel() == static_cast<int64_t>(lengths.size()) + 1,
                "offsets must be int32 [", lengths.size() + 1, "], on the device of q");
  }
  if (q.is_cpu()) return PackedAttention::apply(q, k, v, lengths, std::optional<at::Tensor>(), false, spec).flatten(1);
  const GpuKernel kernel = gpuKernelFor(q, k, v, spec);
  if (kernel == GpuKernel::none) return composed(q, k, v, lengths, scale, softcap, spec.window);
  const std::optional<at::Tensor> begins = given ? *offsets : sequenceOffsets(lengths, q.device());
  return PackedAttention::apply(q, k, v, lengths, begins, kernel == GpuKernel::flash, spec).flatten(1);
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def(
      "packed_attention(Tensor q, Tensor k, Tensor v, int[] lengths, Tensor? offsets=None, float? scale=None, "
      "float softcap=0., int window=0) -> Tensor");
  library.impl("packed_attention", c10::DispatchKey::CompositeImplicitAutograd, packedAttention);
  library.def(
      "_packed_attention_composed(Tensor q, Tensor k, Tensor v, int[] lengths, float? scale, float softcap, int window) "
      "-> Tensor");  // tests call it on the CPU
  library.impl("_packed_attention_composed", c10::DispatchKey::CompositeImplicitAutograd, composed);
  library.def(
      "_packed_attention_forward(Tensor q, Tensor k, Tensor v, int[] lengths, Tensor? offsets, bool flash, float? scale, "
      "float softcap, int window) -> (Tensor, Tensor)");
  library.impl("_packed_attention_forward", c10::DispatchKey::CPU, forwardCpu);
  library.def(
      "_packed_attention_backward(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor log_sum_exp, "
      "int[] lengths, Tensor? offsets, bool flash, float? scale, float softcap, int window) -> (Tensor, Tensor, Tensor)");
  library.impl("_packed_attention_backward", c10::DispatchKey::CPU, backwardCpu);
}

}  // namespace
}  // namespace slimtune
