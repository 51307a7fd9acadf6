// Memory for the states of paged optimizers, in ranges of bytes (pages) that come and go. All but the constructors run on
// the engine thread.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

namespace slimtune {

class PageStore {
 public:
  struct Stats {
    size_t moved = 0;   // bytes written out
    double waited = 0;  // seconds that the computation waited for pages
  };

  explicit PageStore(size_t size) : size_(size) {}
  virtual ~PageStore() = default;
  PageStore(const PageStore&) = delete;
  size_t size() const { return size_; }

  /// Where the bytes of a tensor lie while its page is in; the tensor keeps `own`, this store.
  virtual at::Tensor tensor(std::shared_ptr<PageStore> own, size_t begin, at::ScalarType type, at::IntArrayRef shape) = 0;
  /// Begins to bring a page in, in the background.
  virtual void prefetch(size_t begin, size_t bytes) = 0;
  /// From here on ops find the page's bytes in its tensors.
  virtual void pageIn(size_t begin, size_t bytes) = 0;
  /// After the ops so far: out of the memory that is scarce.
  virtual void pageOut(size_t begin, size_t bytes) = 0;
  virtual Stats stats() = 0;

 private:
  size_t size_;
};

/// Pages in pinned host memory that take turns in two buffers on a device, the next one copied while the one before is in
/// use. A page's buffer is fixed: pages with even numbers have the first.
/// @param borders where pages begin, ascending from 0, and where the last one ends
std::shared_ptr<PageStore> makeDevicePages(at::Device device, std::vector<size_t> borders);

}  // namespace slimtune
