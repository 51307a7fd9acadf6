#include "mapped_range.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace slimtune {
namespace {

/// What the signal's handler reads: it may take no lock and allocate nothing.
struct Entry {
  std::atomic<uintptr_t> begin = 0;  // 0: free, or not filled in yet
  std::atomic<uintptr_t> end = 0;
  char path[1024] = {};
};
constexpr int kEntries = 512;
Entry table[kEntries];
std::mutex tableMutex;  // of those who write
struct sigaction former;

void say(const char* text) {
  const size_t length = std::strlen(text);
  if (write(STDERR_FILENO, text, length) != static_cast<ssize_t>(length)) return;  // there is nobody left to tell
}

void explain(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const bool faulted = info->si_code > 0;  // not sent by a process
  for (const Entry& entry : table) {
    const uintptr_t begin = entry.begin.load(std::memory_order_acquire);
    if (!faulted || begin == 0 || address < begin || address >= entry.end.load(std::memory_order_relaxed)) continue;
    say("slimtune: ");
    say(entry.path);
    say(" can no longer be read where it is in use: it was cut off or overwritten, or the disk or network share that it is "
        "on has failed. Restore it, and resume from the last checkpoint.\n");
    break;
  }
  // Whoever handled it before does so now, at the same instruction; by default that ends the process.
  sigaction(signal, &former, nullptr);
  if (!faulted) raise(signal);
}

void install() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = explain;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &former);
  });
}

}  // namespace

MappedRange::MappedRange(const void* begin, size_t bytes, const std::string& path) : place_(-1) {
  install();
  std::lock_guard<std::mutex> lock(tableMutex);
  for (int i = 0; i < kEntries && place_ < 0; i++) {
    if (table[i].begin == 0) place_ = i;
  }
  if (place_ < 0) return;
  Entry& entry = table[place_];
  std::strncpy(entry.path, path.c_str(), sizeof entry.path - 1);
  entry.end = reinterpret_cast<uintptr_t>(begin) + bytes;
  entry.begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_release);
}

MappedRange::~MappedRange() {
  if (place_ >= 0) table[place_].begin = 0;
}

}  // namespace slimtune
