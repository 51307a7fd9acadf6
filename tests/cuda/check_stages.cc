// The compositions of what leads to linear layers, of the rotation and of the loss's softmax.
#include "checks.h"

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

namespace {

double toleranceOf(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-10 : dtype == at::kFloat ? 1e-4 : 3e-2; }

void near(const std::string& what, const Tensor& composed, const Tensor& kernel) {
  if (composed.defined() != kernel.defined()) return fail(what, "made by one alone");
  if (!kernel.defined()) return;
  if (composed.scalar_type() != kernel.scalar_type()) return fail(what, "of another dtype");
  const double tolerance = toleranceOf(kernel.scalar_type());
  if (!at::allclose(composed.to(at::kDouble), kernel.to(at::kDouble), tolerance, tolerance)) {
    fail(what, "off by " + std::to_string((composed.to(at::kDouble) - kernel.to(at::kDouble)).abs().max().item<double>()));
  }
}

void checkNorms(at::ScalarType dtype) {
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  for (const bool centered : {false, true}) {
    for (const bool all : {false, true}) {  // bias, residual, trained weights
      const std::string name = std::string(centered ? "layer" : "rms") + " norm in " + c10::toString(dtype);
      const Tensor x = at::randn({11, 24}).to(dtype), weight = at::randn({24}).to(dtype), dy = at::randn({11, 24}).to(dtype);
      const MaybeTensor bias = all ? MaybeTensor(at::randn({24}).to(dtype)) : std::nullopt;
      const MaybeTensor residual = all ? MaybeTensor(at::randn({11, 24}).to(wide)) : std::nullopt;
      std::tuple<Tensor, Tensor> made[2];
      std::tuple<Tensor, Tensor, Tensor> back[2];
      for (const bool composed : {false, true}) {
        made[composed] =
            call<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const MaybeTensor&, bool, double, at::ScalarType,
                                            const MaybeTensor&)>(composed, "slimtune::_norm_forward", x, weight, bias, centered,
                                                                 1e-5, dtype, residual);
        back[composed] =
            call<std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, bool, bool)>(
                composed, "slimtune::_norm_backward", dy, x, weight, std::get<1>(made[composed]), all, all && bias);
      }
      near(name, std::get<0>(made[1]), std::get<0>(made[0]));
      near(name + ": statistics", std::get<1>(made[1]), std::get<1>(made[0]));
      near(name + ": x", std::get<0>(back[1]), std::get<0>(back[0]));
      near(name + ": weight", std::get<1>(back[1]), std::get<1>(back[0]));
      near(name + ": bias", std::get<2>(back[1]), std::get<2>(back[0]));
    }
  }
}

void checkGates(at::ScalarType dtype) {
  for (int64_t activation = 0; activation < 5; activation++) {
    for (const bool beside : {false, true}) {
      const std::string name = "activation " + std::to_string(activation) + " in " + c10::toString(dtype);
      const Tensor joined = at::randn({7, 40}).to(dtype), dy = at::randn({7, 20}).to(dtype);
      const Tensor gate = joined.narrow(1, 0, 20);
      const MaybeTensor up = beside ? MaybeTensor(joined.narrow(1, 20, 20)) : std::nullopt;
      Tensor y[2], dGate[2], dUp[2];
      for (const bool composed : {false, true}) {
        y[composed] = call<Tensor(const Tensor&, const MaybeTensor&, int64_t)>(composed, "slimtune::_gate_forward", gate, up,
                                                                               activation);
        std::tie(dGate[composed], dUp[composed]) =
            call<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const MaybeTensor&, int64_t)>(
                composed, "slimtune::_gate_backward", dy, gate, up, activation);
      }
      near(name, y[1], y[0]);
      near(name + ": gate", dGate[1], dGate[0]);
      near(name + ": up", dUp[1], dUp[0]);
    }
  }
}

void checkRotation(at::ScalarType dtype) {
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  for (const int64_t half : {0, 3, 8}) {
    for (const bool interleaved : {false, true}) {
      for (const int64_t direction : {1, -1}) {
        const Tensor x = at::randn({5, 3, 16}).to(dtype), angles = at::randn({5, half}).to(wide);
        Tensor y[2];
        for (const bool composed : {false, true}) {
          y[composed] = call<Tensor(const Tensor&, const Tensor&, const Tensor&, bool, int64_t)>(
              composed, "slimtune::_rotate", x, angles.cos(), angles.sin(), interleaved, direction);
        }
        near(std::string("rotation in ") + c10::toString(dtype), y[1], y[0]);
      }
    }
  }
}

void checkExpBlocks(at::ScalarType dtype) {
  for (const double cap : {0., 1.5}) {
    const Tensor logits = at::randn({9, 30}).to(dtype) * 2, targets = at::randint(0, 30, {9}, at::kLong);
    Tensor blocks[2] = {logits.clone(), logits.clone()}, statistics[2], sums[2];
    for (const bool composed : {false, true}) {
      statistics[composed] = at::zeros({3, 9}, dtype);
      statistics[composed][0].fill_(-INFINITY);
      sums[composed] = at::ones({9, 4}, dtype);
      for (const int64_t first : {0, 12}) {
        const Tensor block = blocks[composed].narrow(1, first, first == 0 ? 12 : 18);
        call<void(const Tensor&, const Tensor&, int64_t, const Tensor&, at::TensorList, double)>(
            composed, "slimtune::_exp_block_", block, targets, first, statistics[composed], at::TensorList(sums[composed]), cap);
      }
    }
    const std::string name = "exponentials, cap " + std::to_string(cap);
    near(name, blocks[1], blocks[0]);
    near(name + ": statistics", statistics[1], statistics[0]);
    near(name + ": sums", sums[1], sums[0]);
  }
}

}  // namespace

void checkStages() {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    checkNorms(dtype);
    checkGates(dtype);
    checkRotation(dtype);
  }
  for (const auto dtype : {at::kDouble, at::kFloat}) checkExpBlocks(dtype);
}
