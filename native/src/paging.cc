// Memory that can leave RAM: tensors over a file on disk, mapped and shared. The kernel moves its pages out when memory
// runs short; pageOut moves a range out at once, for a run with a budget.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "bindings.h"
#include "values.h"

namespace slimtune {
namespace {

std::runtime_error failed(const std::string& what, int error) {
  return std::runtime_error(what + ": " + std::strerror(error));
}

class PageFile {
 public:
  /// The file is unlinked at once: nothing is left of it after the process, however that ends.
  PageFile(const std::string& path, size_t bytes) : size_(bytes) {
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0) throw failed("cannot create the page file " + path, errno);
    unlink(path.c_str());
    if (const int error = allocate()) {
      close(fd_);
      throw failed("no room for a page file of " + std::to_string(bytes) + " bytes at " + path, error);
    }
    data_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (data_ == MAP_FAILED) {
      const int error = errno;
      close(fd_);
      throw failed("cannot map the page file", error);
    }
  }
  ~PageFile() {
    munmap(data_, size_);
    close(fd_);
  }
  PageFile(const PageFile&) = delete;

  uint8_t* at(size_t begin) const { return static_cast<uint8_t*>(data_) + begin; }
  size_t size() const { return size_; }

  void pageOut(size_t begin, size_t bytes) {
    const auto start = std::chrono::steady_clock::now();
    if (writeOut(begin, bytes) != 0) throw failed("writing optimizer pages to disk", errno);
    madvise(at(begin), bytes, MADV_DONTNEED);
#ifdef __linux__
    posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
#endif
    moved += bytes;
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  void prefetch(size_t begin, size_t bytes) { madvise(at(begin), bytes, MADV_WILLNEED); }

  size_t moved = 0;   // bytes, engine thread
  double waited = 0;  // seconds, engine thread

 private:
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
    fstore_t store{F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(size_), 0};
    if (fcntl(fd_, F_PREALLOCATE, &store) != 0) return errno;
    return ftruncate(fd_, static_cast<off_t>(size_)) == 0 ? 0 : errno;
#else
    return posix_fallocate(fd_, 0, static_cast<off_t>(size_));
#endif
  }

  int fd_ = -1;
  void* data_ = nullptr;
  size_t size_;
};

std::mutex tableMutex;
std::unordered_map<int64_t, std::shared_ptr<PageFile>>& table() {
  static std::unordered_map<int64_t, std::shared_ptr<PageFile>> files;
  return files;
}
int64_t nextFile = 1;

std::shared_ptr<PageFile> fileOf(const Napi::Value& value, const std::string& what) {
  const int64_t id = integerOf(value, what);
  std::lock_guard<std::mutex> lock(tableMutex);
  const auto found = table().find(id);
  if (found == table().end()) throw std::runtime_error(what + ": no such page file");
  return found->second;
}

/// (file, begin, bytes), checked: begin lies on a page's border.
struct Range {
  std::shared_ptr<PageFile> file;
  size_t begin, bytes;
};
Range rangeOf(const Napi::CallbackInfo& info, const std::string& what) {
  Range range{fileOf(info[0], what), 0, 0};
  const int64_t begin = integerOf(info[1], what), bytes = integerOf(info[2], what);
  const auto size = static_cast<int64_t>(range.file->size());
  TORCH_CHECK(begin >= 0 && bytes >= 0 && begin <= size && bytes <= size - begin && begin % sysconf(_SC_PAGESIZE) == 0,
              what, ": bytes ", begin, " + ", bytes, " are no range of whole pages in a file of ", size);
  range.begin = static_cast<size_t>(begin);
  range.bytes = static_cast<size_t>(bytes);
  return range;
}

/// createPageFile(path, bytes)
Napi::Value createPageFile(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "createPageFile: expected a path");
  const int64_t bytes = integerOf(info[1], "createPageFile: bytes");
  TORCH_CHECK(bytes > 0, "createPageFile: bytes must be positive");
  auto file = std::make_shared<PageFile>(info[0].As<Napi::String>().Utf8Value(), static_cast<size_t>(bytes));
  std::lock_guard<std::mutex> lock(tableMutex);
  table().emplace(nextFile, std::move(file));
  return Napi::Number::New(info.Env(), static_cast<double>(nextFile++));
}

/// The file lives on until the last tensor in it is freed.
Napi::Value closePageFile(const Napi::CallbackInfo& info) {
  const int64_t id = integerOf(info[0], "closePageFile");
  std::lock_guard<std::mutex> lock(tableMutex);
  TORCH_CHECK(table().erase(id) == 1, "closePageFile: no such page file");
  return info.Env().Undefined();
}

/// pageTensor(file, begin, dtype, shape): zeros at first.
Napi::Value pageTensor(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  auto file = fileOf(info[0], "pageTensor");
  const int64_t begin = integerOf(info[1], "pageTensor: begin");
  const at::ScalarType type = dtypeOf(info[2], "pageTensor: dtype");
  const std::vector<int64_t> shape = shapeOf(info[3], "pageTensor: shape");
  const size_t itemBytes = c10::elementSize(type);
  size_t bytes = itemBytes;
  for (const int64_t size : shape) {
    TORCH_CHECK(!__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes), "pageTensor: the shape overflows");
  }
  TORCH_CHECK(begin >= 0 && static_cast<size_t>(begin) % itemBytes == 0 && static_cast<size_t>(begin) <= file->size() &&
                  bytes <= file->size() - static_cast<size_t>(begin),
              "pageTensor: bytes ", begin, " + ", bytes, " lie outside the file of ", file->size());
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("pageTensor", {}, {slot}, [&engine, slot, file, begin, type, shape] {
    engine.put(slot, at::from_blob(file->at(static_cast<size_t>(begin)), shape, [file](void*) {}, type));
  });
  return Napi::Number::New(info.Env(), handle);
}

/// pageOut(file, begin, bytes): to disk and out of RAM; a disk that refuses fails the next await.
Napi::Value pageOut(const Napi::CallbackInfo& info) {
  const Range range = rangeOf(info, "pageOut");
  Engine::of(info.Env()).enqueue("pageOut", {}, {}, [range] { range.file->pageOut(range.begin, range.bytes); });
  return info.Env().Undefined();
}

/// prefetch(file, begin, bytes): asks the kernel to read ahead.
Napi::Value prefetch(const Napi::CallbackInfo& info) {
  const Range range = rangeOf(info, "prefetch");
  Engine::of(info.Env()).enqueue("prefetch", {}, {}, [range] { range.file->prefetch(range.begin, range.bytes); });
  return info.Env().Undefined();
}

/// pagingStats(file): a promise of {moved: bytes written out, waited: seconds spent on it}.
Napi::Value pagingStats(const Napi::CallbackInfo& info) {
  auto file = fileOf(info[0], "pagingStats");
  return Engine::of(info.Env()).read(info.Env(), "pagingStats", {}, [file]() -> Settle {
    return [moved = file->moved, waited = file->waited](Napi::Env env) {
      Napi::Object result = Napi::Object::New(env);
      result.Set("moved", static_cast<double>(moved));
      result.Set("waited", waited);
      return result;
    };
  });
}

}  // namespace

void definePaging(Napi::Object& exports) {
  define(exports, "createPageFile", createPageFile);
  define(exports, "closePageFile", closePageFile);
  define(exports, "pageTensor", pageTensor);
  define(exports, "pageOut", pageOut);
  define(exports, "prefetch", prefetch);
  define(exports, "pagingStats", pagingStats);
}

}  // namespace slimtune
