// Memory-mapped files as tensors, without a copy.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "bindings.h"
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
  }
  ~MappedFile() {
    if (data && data != MAP_FAILED) munmap(data, size);
  }
  MappedFile(const MappedFile&) = delete;

  /// Gives the memory of bytes back that nobody uses: they are read from the file again when they are touched.
  void release(uint8_t* begin, size_t bytes) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
  void* data = nullptr;
  size_t size = 0;
};

std::mutex tableMutex;
std::unordered_map<int64_t, std::shared_ptr<MappedFile>>& table() {
  static std::unordered_map<int64_t, std::shared_ptr<MappedFile>> files;
  return files;
}
int64_t nextFile = 1;

std::string pathOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), what + ": expected a path, got " + kindOf(value));
  const std::string path = value.As<Napi::String>().Utf8Value();
  if (path.find('\0') != std::string::npos) throw std::runtime_error(what + ": the path has a NUL character");
  return path;
}

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
      engine.put(slot, at::from_blob(data, shape, [file, data, bytes](void*) { file->release(data, bytes); }, options));
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
