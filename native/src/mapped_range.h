// Files that are in memory by mapping, known by their names when they fail.
#pragma once

#include <cstddef>
#include <string>

namespace slimtune {

/// While it lives, a page of the mapping that cannot be read or written any more (the file was cut off, a network share or
/// a disk failed) ends the process with a message that names the file, where it would end without a word.
class MappedRange {
 public:
  MappedRange(const void* begin, size_t bytes, const std::string& path);
  ~MappedRange();
  MappedRange(const MappedRange&) = delete;

 private:
  int place_;  // in the table; -1: it is full, and the file remains unnamed
};

}  // namespace slimtune
