// slimtune::adafactor_step_: Adafactor (https://arxiv.org/abs/1804.04235) as transformers.optimization.Adafactor computes it
// without scale_parameter, relative_step and first moment. A matrix keeps the mean squares of its rows and of its columns
// only; three passes over its gradient take the place of float32 temporaries of its size.
#include <ATen/Parallel.h>

#include <array>
#include <atomic>
#include <cmath>
#include <numeric>

#include "optimizer_ops.h"
#include "vectorised.h"

namespace slimtune {
namespace {

constexpr int64_t kChunk = 1 << 14;   // elements worth a thread's while
constexpr int64_t kMostChunks = 64;   // of a matrix: each has column sums of its own

struct Adafactor {
  float scale, lr, weightDecay;
  float decay;  // of the mean squares, at this update
  float eps, clip;
  void follow(float& mean, float now) const { mean = decay * mean + (1.f - decay) * now; }
  /// What an update of that root mean square is multiplied by.
  float rate(double squares, int64_t count) const {
    const double rms = std::sqrt(squares / static_cast<double>(count));
    return static_cast<float>(lr / std::max(1., rms / clip));
  }
};

/// columns[j] += g[j]²; returns Σ g².
SLIMTUNE_VECTORISED float addSquares(const float* gradient, float scale, float* columns, int64_t count) {
  float sum = 0.f;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < count; j++) {
    const float square = gradient[j] * scale * (gradient[j] * scale);
    columns[j] += square;
    sum += square;
  }
  return sum;
}

/// Σ (g·factor)².
SLIMTUNE_VECTORISED float sumSquares(const float* gradient, const float* factors, int64_t count) {
  float sum = 0.f;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < count; j++) sum += gradient[j] * factors[j] * (gradient[j] * factors[j]);
  return sum;
}

/// Returns whether all that it made is finite.
SLIMTUNE_VECTORISED bool apply(float* p, const float* gradient, const float* factors, float decay, float rate,
                               int64_t count) {
  Magnitude largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < count; j++) {
    p[j] = p[j] * decay - rate * gradient[j] * factors[j];
    largest = std::max(largest, magnitude(p[j]));
  }
  return isFinite(largest);
}

bool allFinite(const float* values, int64_t count) {
  return std::all_of(values, values + count, [](float x) { return std::isfinite(x); });
}

/// One value for each 1/√mean.
void inverseRoots(const float* means, float* roots, int64_t count) {
  for (int64_t i = 0; i < count; i++) roots[i] = 1.f / std::sqrt(means[i]);
}

/// Rows of a matrix [R, C] that are taken together.
int64_t chunkRows(int64_t R, int64_t C) { return std::max<int64_t>({1, kChunk / C, at::divup(R, kMostChunks)}); }

/// Floats that the update of a tensor works in: a matrix's column sums of each chunk and column factors, a vector's factors.
int64_t workspaceOf(const at::Tensor& self) {
  if (self.numel() == 0 || self.dim() == 1) return self.numel();
  const int64_t R = self.size(0), C = self.size(1);
  return (at::divup(R, chunkRows(R, C)) + 1) * C;
}

/// Large ones are parallel inside and share a workspace, small ones are among each other.
bool isLarge(const at::Tensor& self) { return self.numel() > kChunk; }

/// Where each parameter's workspace begins, and at last its size in all.
std::vector<int64_t> workspacePlaces(at::TensorList self) {
  int64_t end = 0;
  for (const at::Tensor& each : self) {
    if (isLarge(each)) end = std::max(end, workspaceOf(each));
  }
  std::vector<int64_t> places;
  for (const at::Tensor& each : self) {
    places.push_back(isLarge(each) ? 0 : end);
    if (!isLarge(each)) end += workspaceOf(each);
  }
  places.push_back(end);
  return places;
}

/// p, gradient [R, C]; rowMeans [R], columnMeans [C]. Returns whether all that it made is finite.
bool updateMatrix(const Adafactor& o, float* p, const float* gradient, float* rowMeans, float* columnMeans, int64_t R,
                  int64_t C, float* workspace) {
  const int64_t rows = chunkRows(R, C);
  const int64_t chunks = at::divup(R, rows);
  float* const columnSums = workspace;  // [chunks, C]
  float* const columnFactors = workspace + chunks * C;
  std::fill(columnSums, columnFactors, 0.f);
  const auto eachChunk = [&](auto&& work) {
    at::parallel_for(0, chunks, 1, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; c++) work(static_cast<size_t>(c), c * rows, std::min((c + 1) * rows, R));
    });
  };

  eachChunk([&](size_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float* columns = columnSums + static_cast<int64_t>(chunk) * C;
      const float squares = addSquares(gradient + i * C, o.scale, columns, C);
      o.follow(rowMeans[i], squares / static_cast<float>(C) + o.eps);
    }
  });
  for (int64_t j = 0; j < C; j++) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) sum += columnSums[chunk * C + j];
    o.follow(columnMeans[j], static_cast<float>(sum / static_cast<double>(R)) + o.eps);
  }

  // The mean square of an element is about its row's times its column's, over the mean of the rows'.
  const double mean = std::accumulate(rowMeans, rowMeans + R, 0.) / static_cast<double>(R);
  inverseRoots(columnMeans, columnFactors, C);
  const auto rowFactor = [&](int64_t i) { return o.scale / std::sqrt(rowMeans[i] / static_cast<float>(mean)); };
  std::array<double, kMostChunks> squares{};
  eachChunk([&](size_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const double factor = rowFactor(i);
      squares[chunk] += factor * factor * sumSquares(gradient + i * C, columnFactors, C);
    }
  });
  const float rate = o.rate(std::accumulate(squares.begin(), squares.end(), 0.), R * C);
  std::atomic<bool> finite = allFinite(rowMeans, R) && allFinite(columnMeans, C);
  eachChunk([&](size_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float* const row = p + i * C;
      if (!apply(row, gradient + i * C, columnFactors, 1.f - o.weightDecay * o.lr, rate * rowFactor(i), C)) finite = false;
    }
  });
  return finite;
}

/// p, gradient, means, factors [N]
bool updateVector(const Adafactor& o, float* p, const float* gradient, float* means, int64_t N, float* factors) {
  for (int64_t i = 0; i < N; i++) o.follow(means[i], gradient[i] * o.scale * (gradient[i] * o.scale) + o.eps);
  inverseRoots(means, factors, N);
  const double squares = static_cast<double>(o.scale) * o.scale * sumSquares(gradient, factors, N);
  const bool finite = apply(p, gradient, factors, 1.f - o.weightDecay * o.lr, o.rate(squares, N) * o.scale, N);
  return finite && allFinite(means, N);
}

Adafactor settings(double gradientScale, double lr, double weightDecay, double decay, double eps, double clipThreshold) {
  const auto narrow = [](double value) { return static_cast<float>(value); };
  return {narrow(gradientScale), narrow(lr), narrow(weightDecay), narrow(decay), narrow(eps), narrow(clipThreshold)};
}

/// Where each parameter's states begin. states: of a matrix the means of its rows [R] and of its columns [C], of a vector
/// [N]; one parameter's after the other's.
std::vector<size_t> checkedPlaces(at::TensorList self, at::TensorList gradients, at::TensorList states) {
  TORCH_CHECK(gradients.size() == self.size(), "expected ", self.size(), " gradients, got ", gradients.size());
  const auto isPlain = [&](const at::Tensor& tensor, at::IntArrayRef shape) {
    return tensor.device() == self[0].device() && tensor.layout() == at::kStrided && tensor.is_contiguous() &&
           tensor.scalar_type() == at::kFloat && tensor.sizes() == shape;
  };
  std::vector<size_t> first;
  size_t end = 0;
  for (size_t i = 0; i < self.size(); i++) {
    const at::IntArrayRef shape = self[i].sizes();
    TORCH_CHECK((shape.size() == 1 || shape.size() == 2) && isPlain(self[i], shape) && isPlain(gradients[i], shape),
                "parameter ", i, " and its gradient must be contiguous float32 vectors or matrices of one shape, all on "
                "one device");
    for (const int64_t size : shape) {
      TORCH_CHECK(end < states.size() && isPlain(states[end], {size}), "state ", end, " must be float32 [", size,
                  "] on its parameter's device");
      first.resize(i + 1, end++);
    }
  }
  TORCH_CHECK(end == states.size(), "expected ", end, " states, got ", states.size());
  return first;
}

/// What an update of these parameters works in: made once, so that an update finds it there.
at::Tensor adafactorWorkspace(at::TensorList self) {
  for (const at::Tensor& each : self) TORCH_CHECK(each.dim() == 1 || each.dim() == 2, "expected vectors and matrices");
  return at::empty({workspacePlaces(self).back()}, at::kFloat);
}

void adafactorStep(at::TensorList self, at::TensorList gradients, at::TensorList states, const at::Tensor& workspace,
                   const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, double decay,
                   double eps, double clipThreshold) {
  checkNonfinite(nonfinite, self);
  const Adafactor o = settings(gradientScale, lr, weightDecay, decay, eps, clipThreshold);
  const std::vector<size_t> first = checkedPlaces(self, gradients, states);
  const std::vector<int64_t> places = workspacePlaces(self);
  TORCH_CHECK(workspace.is_cpu() && workspace.scalar_type() == at::kFloat && workspace.is_contiguous() &&
                  workspace.numel() >= places.back(),
              "the workspace must be contiguous float32 of ", places.back(), " elements or more");
  const auto update = [&](size_t i) {
    if (self[i].numel() == 0) return true;
    float* p = self[i].data_ptr<float>();
    const float* gradient = gradients[i].data_ptr<float>();
    float* rows = states[first[i]].data_ptr<float>();
    float* own = workspace.data_ptr<float>() + places[i];
    if (self[i].dim() == 1) return updateVector(o, p, gradient, rows, self[i].numel(), own);
    return updateMatrix(o, p, gradient, rows, states[first[i] + 1].data_ptr<float>(), self[i].size(0), self[i].size(1), own);
  };
  std::atomic<bool> finite = true;
  for (size_t i = 0; i < self.size(); i++) {
    if (isLarge(self[i]) && !update(i)) finite = false;
  }
  at::parallel_for(0, static_cast<int64_t>(self.size()), 1, [&](int64_t begin, int64_t last) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(last); i++) {
      if (!isLarge(self[i]) && !update(i)) finite = false;
    }
  });
  if (!finite) *nonfinite.data_ptr<float>() = 1.f;
}

/// The same of ATen's ops, for other devices, which wait for nothing. It works in temporaries of its own.
void composedStep(at::TensorList self, at::TensorList gradients, at::TensorList states, const at::Tensor&,
                  const at::Tensor& nonfinite, double gradientScale, double lr, double weightDecay, double decay, double eps,
                  double clipThreshold) {
  checkNonfinite(nonfinite, self);
  const Adafactor o = settings(gradientScale, lr, weightDecay, decay, eps, clipThreshold);
  const std::vector<size_t> first = checkedPlaces(self, gradients, states);
  const auto followed = [&](const at::Tensor& means, const at::Tensor& now) {
    at::Tensor(means).mul_(o.decay).add_(now + o.eps, 1.f - o.decay);
    return means;
  };
  for (size_t i = 0; i < self.size(); i++) {
    if (self[i].numel() == 0) continue;
    const at::Tensor g = gradients[i] * o.scale, squares = g * g;
    at::Tensor step;
    if (g.dim() == 1) {
      step = g * followed(states[first[i]], squares).rsqrt();
    } else {
      const at::Tensor rows = followed(states[first[i]], squares.mean(1));
      const at::Tensor columns = followed(states[first[i] + 1], squares.mean(0));
      step = g * (rows / rows.mean()).rsqrt().unsqueeze(1) * columns.rsqrt();
    }
    const at::Tensor rms = step.square().mean().sqrt();
    at::Tensor(self[i]).mul_(1.f - o.weightDecay * o.lr).sub_(step * (o.lr / (rms / o.clip).clamp_min(1)));
  }
  if (!self.empty()) noteNonfinite(nonfinite, {self, states});
}

TORCH_LIBRARY_FRAGMENT(slimtune, library) {
  library.def("adafactor_workspace(Tensor[] self) -> Tensor");
  library.def(
      "adafactor_step_(Tensor(a!)[] self, Tensor[] gradients, Tensor(b!)[] states, Tensor(c!) workspace, "
      "Tensor(d!) nonfinite, float gradient_scale, float lr, float weight_decay, float decay, float eps, "
      "float clip_threshold) -> ()");
}
TORCH_LIBRARY_IMPL(slimtune, CPU, library) {
  library.impl("adafactor_workspace", adafactorWorkspace);
  library.impl("adafactor_step_", adafactorStep);
}
TORCH_LIBRARY_IMPL(slimtune, CompositeExplicitAutograd, library) {
  library.impl("adafactor_workspace", [](at::TensorList self) {
    return at::empty({0}, self.empty() ? at::TensorOptions() : self[0].options());
  });
  library.impl("adafactor_step_", composedStep);
}

}  // namespace
}  // namespace slimtune
