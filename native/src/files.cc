// Memory-mapped files as tensors, without a copy.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_map>

#include "bindings.h"
#include "mapped_range.h"
#include "values.h"

namespace slimtune {
namespace {

/// A private mapping: pages are shared with the page cache until written, and writes never reach the file.
struct MappedFile {
  MappedFile(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not hang us
    if (fd < 0) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
      close(fd);
      throw std::runtime_error("not a regular file: " + path);
    }
    size = static_cast<size_t>(status.st_size);
    if (size > 0) {
      data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    }
    const int error = errno;
    close(fd);
    if (data == MAP_FAILED) throw std::runtime_error("cannot map " + path + ": " + std::strerror(error));
    if (data) named_.emplace(data, size, path);
  }
  ~MappedFile() {
    named_.reset();
    if (data && data != MAP_FAILED) munmap(data, size);
  }
  MappedFile(const MappedFile&) = delete;

  struct Range {
    size_t begin, end;
    bool operator==(const Range&) const = default;
  };

  void use(Range range) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_.push_back(range);
  }

  /// Gives the memory of bytes back: they are read from the file again when they are touched. Not where another tensor has
  /// some of them, who may have written to them.
  void release(Range range) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_.erase(std::find(used_.begin(), used_.end(), range));
    for (const Range& other : used_) {
      if (other.begin < range.end && range.begin < other.end) return;
    }
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t first = (range.begin + page - 1) / page * page, last = range.end / page * page;
    if (first < last) madvise(static_cast<uint8_t*>(data) + first, last - first, MADV_DONTNEED);
  }
  void* data = nullptr;
  size_t size = 0;

 private:
  std::optional<MappedRange> named_;
  std::mutex mutex_;
  std::vector<Range> used_;  // by tensors, in bytes of the file
};

std::mutex tableMutex;
std::unordered_map<int64_t, std::shared_ptr<MappedFile>>& table() {
  static std::unordered_map<int64_t, std::shared_ptr<MappedFile>> files;
  return files;
}
int64_t nextFile = 1;

Napi::Value mapFile(const Napi::CallbackInfo& info) {
  auto file = std::make_shared<MappedFile>(pathOf(info[0], "mapFile"));
  std::lock_guard<std::mutex> lock(tableMutex);
  table().emplace(nextFile, std::move(file));
  return Napi::Number::New(info.Env(), static_cast<double>(nextFile++));
}

/// The mapping lives on until the last tensor in it is freed.
Napi::Value unmapFile(const Napi::CallbackInfo& info) {
  const int64_t id = integerOf(info[0], "unmapFile");
  std::lock_guard<std::mutex> lock(tableMutex);
  if (table().erase(id) == 0) throw std::runtime_error("unmapFile: no such file");
  return info.Env().Undefined();
}

/// fileTensor(file, begin, dtype, shape): a tensor over the file's bytes; a copy where they are not aligned.
Napi::Value fileTensor(const Napi::CallbackInfo& info) {
  Engine& engine = Engine::of(info.Env());
  std::shared_ptr<MappedFile> file;
  {
    const int64_t id = integerOf(info[0], "fileTensor: file");
    std::lock_guard<std::mutex> lock(tableMutex);
    const auto found = table().find(id);
    if (found == table().end()) throw std::runtime_error("fileTensor: no such file");
    file = found->second;
  }
  const int64_t begin = integerOf(info[1], "fileTensor: begin");
  const at::ScalarType dtype = dtypeOf(info[2], "fileTensor: dtype");
  const std::vector<int64_t> shape = shapeOf(info[3], "fileTensor: shape");
  size_t bytes = c10::elementSize(dtype);
  for (const int64_t size : shape) {
    TORCH_CHECK(!__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes), "fileTensor: the shape overflows");
  }
  TORCH_CHECK(begin >= 0 && static_cast<size_t>(begin) <= file->size && bytes <= file->size - static_cast<size_t>(begin),
              "fileTensor: bytes ", begin, " to ", begin, " + ", bytes, " lie outside the file of ", file->size);
  Slot slot;
  const double handle = engine.newHandle(slot);
  engine.enqueue("fileTensor", {}, {slot}, [&engine, slot, file, begin, bytes, dtype, shape] {
    const auto options = at::TensorOptions().dtype(dtype);
    uint8_t* data = static_cast<uint8_t*>(file->data) + begin;
    if (bytes == 0) {
      engine.put(slot, at::empty(shape, options));
    } else if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(dtype) != 0) {
      at::Tensor copy = at::empty(shape, options);
      std::memcpy(copy.mutable_data_ptr(), data, bytes);
      engine.put(slot, copy);
    } else {
      const MappedFile::Range range{static_cast<size_t>(begin), static_cast<size_t>(begin) + bytes};
      file->use(range);
      engine.put(slot, at::from_blob(data, shape, [file, range](void*) { file->release(range); }, options));
    }
  });
  return Napi::Number::New(info.Env(), handle);
}

}  // namespace

void defineFiles(Napi::Object& exports) {
  define(exports, "mapFile", mapFile);
  define(exports, "unmapFile", unmapFile);
  define(exports, "fileTensor", fileTensor);
}

}  // namespace slimtune
