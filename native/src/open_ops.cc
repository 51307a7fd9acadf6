#include "open_ops.h"

#include <algorithm>
#include <iterator>

namespace slimtune {
namespace {

// Sorted. tests/bridge/fuzz.test.ts throws random arguments at each.
constexpr std::string_view kOpen[] = {
    "aten::_foreach_norm.Scalar",
    "aten::add.Scalar",
    "aten::add.Tensor",
    "aten::add_.Scalar",
    "aten::argmax",
    "aten::bernoulli_.float",
    "aten::cat",
    "aten::clone",
    "aten::copy_",
    "aten::cos",
    "aten::cross_entropy_loss",
    "aten::detach",
    "aten::embedding",
    "aten::empty.memory_format",
    "aten::exp",
    "aten::index.Tensor",
    "aten::index_select",
    "aten::linear",
    "aten::log_softmax.int",
    "aten::matmul",
    "aten::mean.dim",
    "aten::mul.Scalar",
    "aten::mul.Tensor",
    "aten::narrow",
    "aten::neg",
    "aten::normal_",
    "aten::random_",
    "aten::randperm",
    "aten::randperm.generator",
    "aten::requires_grad_",
    "aten::reshape",
    "aten::rsqrt",
    "aten::scaled_dot_product_attention",
    "aten::select.int",
    "aten::silu",
    "aten::sin",
    "aten::softmax.int",
    "aten::sort",
    "aten::split.Tensor",
    "aten::square",
    "aten::stack",
    "aten::sum",
    "aten::sum.dim_IntList",
    "aten::tanh",
    "aten::to.dtype",
    "aten::to.dtype_layout",
    "aten::transpose.int",
    "aten::uniform_",
    "aten::unsqueeze",
    "aten::zero_",
    "aten::zeros",
    "slimtune::adafactor_step_",
    "slimtune::adafactor_workspace",
    "slimtune::adagrad_step_",
    "slimtune::adamw_step_",
    "slimtune::ademamix_step_",
    "slimtune::gated_linears",
    "slimtune::grad_norm",
    "slimtune::linear_cross_entropy",
    "slimtune::linears",
    "slimtune::lion_step_",
    "slimtune::normed_linears",
    "slimtune::packed_attention",
    "slimtune::quantize_4bit",
    "slimtune::quantize_8bit",
    "slimtune::rmsprop_step_",
    "slimtune::rope",
    "slimtune::sgd_step_",
    "slimtune::torch_adamw_step_",
};

}  // namespace

bool isOpen(std::string_view name) { return std::binary_search(std::begin(kOpen), std::end(kOpen), name); }

}  // namespace slimtune
