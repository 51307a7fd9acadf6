// Explicit paging between a device and the host. Every copy is on one stream of its own, so that copies keep their order;
// events order them with the stream that computes. Nothing waits on the host.
//
//   compute   in 0 | update 0 | in 1 | update 1 | in 2 ...
//   copies    fetch 0 | fetch 1 | write 0, fetch 2 | write 1, fetch 3 ...
//
// Of LibTorch's device-generic streams alone: it needs no header of CUDA. On the CPU, whose streams do nothing, each copy
// is done when its call returns: so is the order tested.
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <deque>

#include "page_store.h"

namespace slimtune {
namespace {

at::TensorOptions bytesOn(at::Device device) { return at::TensorOptions(at::kByte).device(device); }

class DevicePages : public PageStore {
 public:
  DevicePages(at::Device device, std::vector<size_t> borders)
      : PageStore(borders.back()), device_(device), borders_(std::move(borders)), guard_(device.type()) {
    size_t largest = 0;
    for (size_t page = 0; page + 1 < borders_.size(); page++) largest = std::max(largest, bytesOf(page));
    if (!device_.is_cpu()) side_ = guard_.getNewStream(device_);
    host_ = at::zeros({static_cast<int64_t>(size())}, bytesOn(at::kCPU).pinned_memory(!device_.is_cpu()));
    for (Buffer& buffer : buffers_) buffer.bytes = at::empty({static_cast<int64_t>(largest)}, bytesOn(device_));
  }
  ~DevicePages() override {
    try {
      if (side_) side_->synchronize();  // copies may be under way in the memory that is given back
    } catch (const std::exception&) {
      // The device has failed: every later op on it says so.
    }
  }

  at::Tensor tensor(std::shared_ptr<PageStore> own, size_t begin, at::ScalarType type, at::IntArrayRef shape) override {
    const size_t page = static_cast<size_t>(std::upper_bound(borders_.begin(), borders_.end() - 1, begin) - borders_.begin()) - 1;
    const size_t bytes = c10::multiply_integers(shape) * c10::elementSize(type);
    TORCH_CHECK(begin + bytes <= borders_[page + 1], "bytes ", begin, " + ", bytes, " lie on more than one page");
    auto* data = static_cast<uint8_t*>(bufferOf(page).bytes.data_ptr()) + (begin - borders_[page]);
    return at::from_blob(data, shape, [own = std::move(own)](void*) {}, at::TensorOptions(type).device(device_));
  }

  void prefetch(size_t begin, size_t bytes) override {
    const size_t page = pageAt(begin, bytes);
    Buffer& buffer = bufferOf(page);
    if (buffer.page == page) return;
    buffer.page = page;
    onSide([&] { inBuffer(page).copy_(onHost(page), true); });
    if (side_) buffer.fetched.record(*side_);
  }

  void pageIn(size_t begin, size_t bytes) override {
    prefetch(begin, bytes);
    if (!side_) return;
    const c10::Stream compute = guard_.getStream(device_);
    waits_.emplace_back(device_.type());
    waits_.back().before.record(compute);
    bufferOf(pageAt(begin, bytes)).fetched.block(compute);
    waits_.back().after.record(compute);
    countWaits();
  }

  void pageOut(size_t begin, size_t bytes) override {
    const size_t page = pageAt(begin, bytes);
    TORCH_CHECK(bufferOf(page).page == page, "page ", page, " is not in");
    onSide([&] { onHost(page).copy_(inBuffer(page), true); });
    stats_.moved += bytes;
  }

  Stats stats() override {
    if (side_) {
      side_->synchronize();
      guard_.getStream(device_).synchronize();
      countWaits();
    }
    return stats_;
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  struct Buffer {
    explicit Buffer(at::DeviceType type) : fetched(type) {}
    at::Tensor bytes;
    size_t page = kNone;  // that is in it, or will be once `fetched` has happened
    c10::Event fetched;
  };
  /// Around a wait of the stream that computes.
  struct Wait {
    explicit Wait(at::DeviceType type) : before(type, c10::EventFlag::BACKEND_DEFAULT), after(type, c10::EventFlag::BACKEND_DEFAULT) {}
    c10::Event before, after;
  };

  size_t bytesOf(size_t page) const { return borders_[page + 1] - borders_[page]; }
  Buffer& bufferOf(size_t page) { return buffers_[page % 2]; }
  at::Tensor inBuffer(size_t page) { return bufferOf(page).bytes.narrow(0, 0, static_cast<int64_t>(bytesOf(page))); }
  at::Tensor onHost(size_t page) {
    return host_.narrow(0, static_cast<int64_t>(borders_[page]), static_cast<int64_t>(bytesOf(page)));
  }
  size_t pageAt(size_t begin, size_t bytes) const {
    const auto found = std::lower_bound(borders_.begin(), borders_.end() - 1, begin);
    const auto page = static_cast<size_t>(found - borders_.begin());
    TORCH_CHECK(found != borders_.end() - 1 && *found == begin && bytesOf(page) == bytes, "bytes ", begin, " + ", bytes,
                " are no page");
    return page;
  }

  /// A copy on the side stream, after all that computes so far: the update that used its buffer is among that.
  template <typename Copy>
  void onSide(const Copy& copy) {
    if (!side_) return copy();
    c10::Event before(device_.type());
    before.record(guard_.getStream(device_));
    before.block(*side_);
    const c10::StreamGuard guard(*side_);
    copy();
  }

  void countWaits() {
    for (; !waits_.empty() && waits_.front().after.query(); waits_.pop_front()) {
      stats_.waited += waits_.front().before.elapsedTime(waits_.front().after) / 1e3;
    }
  }

  at::Device device_;
  std::vector<size_t> borders_;
  c10::impl::VirtualGuardImpl guard_;
  std::optional<c10::Stream> side_;  // none on the CPU
  at::Tensor host_;
  std::array<Buffer, 2> buffers_{Buffer(device_.type()), Buffer(device_.type())};
  std::deque<Wait> waits_;
  Stats stats_;
};

}  // namespace

std::shared_ptr<PageStore> makeDevicePages(at::Device device, std::vector<size_t> borders) {
  TORCH_CHECK(borders.size() >= 2 && borders[0] == 0 && borders.back() < SIZE_MAX / 2 &&
                  std::adjacent_find(borders.begin(), borders.end(), std::greater_equal<>()) == borders.end(),
              "pages begin at ascending places from 0 on");
  return std::make_shared<DevicePages>(device, std::move(borders));
}

}  // namespace slimtune
