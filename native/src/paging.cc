// Pages of paged optimizers (page_store.h) and JavaScript's hold on them. On the CPU a store is a file on disk, mapped and
// shared: the kernel moves its pages out when memory runs short; pageOut moves a range out at once, for a run with a budget.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_map>

#include "bindings.h"
#include "mapped_range.h"
#include "page_store.h"
#include "values.h"

namespace slimtune {
namespace {

std::runtime_error failed(const std::string& what, int error) {
  return std::runtime_error(what + ": " + std::strerror(error));
}

class PageFile : public PageStore {
 public:
  /// The file is unlinked at once: nothing is left of it after the process, however that ends.
  PageFile(const std::string& path, size_t bytes) : PageStore(bytes) {
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0) throw failed("cannot create the page file " + path, errno);
    unlink(path.c_str());
    if (const int error = allocate()) {
      close(fd_);
      throw failed("no room for a page file of " + std::to_string(bytes) + " bytes at " + path, error);
    }
    data_ = mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (data_ == MAP_FAILED) {
      const int error = errno;
      close(fd_);
      throw failed("cannot map the page file", error);
    }
    named_.emplace(data_, size(), "the page file " + path);
  }
  ~PageFile() override {
    named_.reset();
    munmap(data_, size());
    close(fd_);
  }

  at::Tensor tensor(std::shared_ptr<PageStore> own, size_t begin, at::ScalarType type, at::IntArrayRef shape) override {
    return at::from_blob(at(begin), shape, [own = std::move(own)](void*) {}, type);
  }
  void pageIn(size_t, size_t) override {}  // comes when it is touched

  void pageOut(size_t begin, size_t bytes) override {
    const auto start = std::chrono::steady_clock::now();
    if (writeOut(begin, bytes) != 0) throw failed("writing optimizer pages to disk", errno);
    madvise(at(begin), bytes, MADV_DONTNEED);
#ifdef __linux__
    posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
#endif
    stats_.moved += bytes;
    stats_.waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  void prefetch(size_t begin, size_t bytes) override { madvise(at(begin), bytes, MADV_WILLNEED); }
  Stats stats() override { return stats_; }

 private:
  uint8_t* at(size_t begin) const { return static_cast<uint8_t*>(data_) + begin; }

  /// The pages must leave RAM, not survive a power cut: msync would also wait for the disk's journal and cache.
  int writeOut(size_t begin, size_t bytes) {
#ifdef __linux__
    return sync_file_range(fd_, static_cast<off_t>(begin), static_cast<off_t>(bytes),
                           SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
#else
    return msync(at(begin), bytes, MS_SYNC);
#endif
  }

  /// Takes the blocks now: a full disk is an error here, not a signal in the middle of an update.
  int allocate() {
#ifdef __APPLE__
    fstore_t store{F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(size()), 0};
    if (fcntl(fd_, F_PREALLOCATE, &store) != 0) return errno;
    return ftruncate(fd_, static_cast<off_t>(size())) == 0 ? 0 : errno;
#else
    return posix_fallocate(fd_, 0, static_cast<off_t>(size()));
#endif
  }

  int fd_ = -1;
  void* data_ = nullptr;
  std::optional<MappedRange> named_;
  Stats stats_;
};

std::mutex tableMutex;
std::unordered_map<int64_t, std::shared_ptr<PageStore>>& table() {
  static std::unordered_map<int64_t, std::shared_ptr<PageStore>> stores;
  return stores;
}
int64_t nextStore = 1;

Napi::Value numbered(Napi::Env env, std::shared_ptr<PageStore> store) {
  std::lock_guard<std::mutex> lock(tableMutex);
  table().emplace(nextStore, std::move(store));
  return Napi::Number::New(env, static_cast<double>(nextStore++));
}

std::shared_ptr<PageStore> storeOf(const Napi::Value& value, const std::string& what) {
  const int64_t id = integerOf(value, what);
  std::lock_guard<std::mutex> lock(tableMutex);
  const auto found = table().find(id);
  if (found == table().end()) throw std::runtime_error(what + ": no such pages");
  return found->second;
}

/// (store, begin, bytes), checked: begin lies on a page's border.
struct Range {
  std::shared_ptr<PageStore> store;
  size_t begin, bytes;
};
Range rangeOf(const Napi::CallbackInfo& info, const std::string& what) {
  Range range{storeOf(info[0], what), 0, 0};
  const int64_t begin = integerOf(info[1], what), bytes = integerOf(info[2], what);
  const auto size = static_cast<int64_t>(range.store->size());
  TORCH_CHECK(begin >= 0 && bytes >= 0 && begin <= size && bytes <= size - begin && begin % sysconf(_SC_PAGESIZE) == 0,
              what, ": bytes ", begin, " + ", bytes, " are no range of whole pages in ", size);
  range.begin = static_cast<size_t>(begin);
  range.bytes = static_cast<size_t>(bytes);
  return range;
}

/// createPageFile(path, bytes)
Napi::Value createPageFile(const Napi::CallbackInfo& info) {
  const std::string path = pathOf(info[0], "createPageFile");
  const int64_t bytes = integerOf(info[1], "createPageFile: bytes");
  TORCH_CHECK(bytes > 0, "createPageFile: bytes must be positive");
  return numbered(info.Env(), std::make_shared<PageFile>(path, static_cast<size_t>(bytes)));
}

/// createDevicePages(device, borders)
Napi::Value createDevicePages(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "createDevicePages: expected a device");
  const c10::Device device(info[0].As<Napi::String>().Utf8Value());
  std::vector<size_t> borders;
  for (const int64_t border : shapeOf(info[1], "createDevicePages: borders")) borders.push_back(static_cast<size_t>(border));
  std::shared_ptr<PageStore> store;
  Engine::of(info.Env()).wait([&] { store = makeDevicePages(device, std::move(borders)); });
  return numbered(info.Env(), std::move(store));
}

/// They live on until the last tensor in them is freed.
Napi::Value closePages(const Napi::CallbackInfo& info) {
  const int64_t id = integerOf(info[0], "closePages");
  std::lock_guard<std::mutex> lock(tableMutex);
  TORCH_CHECK(table().erase(id) == 1, "closePages: no such pages");
  return info.Env().Undefined();
}

/// pageTensor(store, begin, dtype, shape): zeros at first.
Napi::Value pageTensor(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  auto store = storeOf(info[0], "pageTensor");
  const int64_t begin = integerOf(info[1], "pageTensor: begin");
  const at::ScalarType type = dtypeOf(info[2], "pageTensor: dtype");
  const std::vector<int64_t> shape = shapeOf(info[3], "pageTensor: shape");
  const size_t itemBytes = c10::elementSize(type);
  size_t bytes = itemBytes;
  for (const int64_t size : shape) {
    TORCH_CHECK(!__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes), "pageTensor: the shape overflows");
  }
  TORCH_CHECK(begin >= 0 && static_cast<size_t>(begin) % itemBytes == 0 && static_cast<size_t>(begin) <= store->size() &&
                  bytes <= store->size() - static_cast<size_t>(begin),
              "pageTensor: bytes ", begin, " + ", bytes, " lie outside the pages of ", store->size());
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("pageTensor", {}, {slot}, [&engine, slot, store, begin, type, shape] {
    engine.put(slot, store->tensor(store, static_cast<size_t>(begin), type, shape));
  });
  return Napi::Number::New(info.Env(), handle);
}

/// pageOut(store, begin, bytes): to disk and out of RAM; a disk that refuses fails the next await.
Napi::Value pageOut(const Napi::CallbackInfo& info) {
  const Range range = rangeOf(info, "pageOut");
  Engine::of(info.Env()).enqueue("pageOut", {}, {}, [range] { range.store->pageOut(range.begin, range.bytes); });
  return info.Env().Undefined();
}

/// pageIn(store, begin, bytes): before ops with the page's tensors.
Napi::Value pageIn(const Napi::CallbackInfo& info) {
  const Range range = rangeOf(info, "pageIn");
  Engine::of(info.Env()).enqueue("pageIn", {}, {}, [range] { range.store->pageIn(range.begin, range.bytes); });
  return info.Env().Undefined();
}

/// prefetch(store, begin, bytes): begins to bring it in.
Napi::Value prefetch(const Napi::CallbackInfo& info) {
  const Range range = rangeOf(info, "prefetch");
  Engine::of(info.Env()).enqueue("prefetch", {}, {}, [range] { range.store->prefetch(range.begin, range.bytes); });
  return info.Env().Undefined();
}

/// pagingStats(store): a promise of {moved: bytes written out, waited: seconds spent on it}.
Napi::Value pagingStats(const Napi::CallbackInfo& info) {
  auto store = storeOf(info[0], "pagingStats");
  return Engine::of(info.Env()).read(info.Env(), "pagingStats", {}, [store]() -> Settle {
    return [stats = store->stats()](Napi::Env env) {
      Napi::Object result = Napi::Object::New(env);
      result.Set("moved", static_cast<double>(stats.moved));
      result.Set("waited", stats.waited);
      return result;
    };
  });
}

}  // namespace

void definePaging(Napi::Object& exports) {
  define(exports, "createPageFile", createPageFile);
  define(exports, "createDevicePages", createDevicePages);
  define(exports, "closePages", closePages);
  define(exports, "pageTensor", pageTensor);
  define(exports, "pageIn", pageIn);
  define(exports, "pageOut", pageOut);
  define(exports, "prefetch", prefetch);
  define(exports, "pagingStats", pagingStats);
}

}  // namespace slimtune
