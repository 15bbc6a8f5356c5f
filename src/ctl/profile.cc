#include "ctl/profile.h"

#include <execinfo.h>
#include <malloc.h>
#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::ctl {

namespace {

constexpr int kHertz = 100, kDepthMax = 32;
constexpr size_t kSamplesMax = 20000;  // 200 s of one processor
constexpr size_t kMapsBytesMax = 4 << 20;

struct Sample {
  int depth;
  void* stack[kDepthMax];
};

// For the signal handler: made before the first signal and never freed.
Sample* g_samples = nullptr;
std::atomic<size_t> g_count{0};

void TakeSample(int) {
  int before = errno;
  size_t i = g_count.fetch_add(1, std::memory_order_relaxed);
  if (i < kSamplesMax) g_samples[i].depth = backtrace(g_samples[i].stack, kDepthMax);
  errno = before;
}

Result<> SetTimer(int microseconds) {
  itimerval timer{.it_interval = {.tv_sec = 0, .tv_usec = microseconds},
                  .it_value = {.tv_sec = 0, .tv_usec = microseconds}};
  if (setitimer(ITIMER_PROF, &timer, nullptr) != 0) return Errno(errno, "set the profile's timer");
  return {};
}

void AddWord(std::string& out, uint64_t word) { out.append(reinterpret_cast<const char*>(&word), sizeof word); }

}  // namespace

Result<CpuProfile> CpuProfile::Make(std::string path) {
  g_samples = new Sample[kSamplesMax];
  void* warm[1];
  backtrace(warm, 1);  // loads what it needs: not in a signal handler
  struct sigaction action{};
  action.sa_handler = TakeSample;
  action.sa_flags = SA_RESTART;
  if (sigaction(SIGPROF, &action, nullptr) != 0) return Errno(errno, "handle SIGPROF");
  TRY(SetTimer(1000000 / kHertz));
  return CpuProfile(std::move(path));
}

Result<> CpuProfile::Write() {
  TRY(SetTimer(0));
  size_t count = std::min(g_count.load(), kSamplesMax);
  std::string out;
  for (uint64_t word : {0, 3, 0, 1000000 / kHertz, 0}) AddWord(out, word);
  for (size_t i = 0; i < count; ++i) {
    // The two topmost are the handler and the kernel's way back from it.
    constexpr int kOwn = 2;
    const Sample& sample = g_samples[i];
    if (sample.depth <= kOwn) continue;
    AddWord(out, 1);
    AddWord(out, static_cast<uint64_t>(sample.depth - kOwn));
    for (int j = kOwn; j < sample.depth; ++j) AddWord(out, reinterpret_cast<uintptr_t>(sample.stack[j]));
  }
  for (uint64_t word : {0, 1, 0}) AddWord(out, word);
  out += TRY(sys::ReadFile("/proc/self/maps", kMapsBytesMax));
  return sys::WriteFileAtomic(path_, out, 0644, sys::Durability::kNone);
}

Result<> WriteHeapProfile(const std::string& path) {
  struct mallinfo2 info = mallinfo2();
  size_t bytes = info.uordblks + info.hblkhd;
  std::string counts = StrCat("1: ", bytes, " [1: ", bytes, "] @");
  char address[32];
  std::snprintf(address, sizeof address, " 0x%zx", reinterpret_cast<uintptr_t>(&WriteHeapProfile));
  std::string out = StrCat("heap profile: ", counts, " heapprofile\n", counts, address, "\n\nMAPPED_LIBRARIES:\n",
                           TRY(sys::ReadFile("/proc/self/maps", kMapsBytesMax)));
  return sys::WriteFileAtomic(path, out, 0644, sys::Durability::kNone);
}

}  // namespace crisp::ctl
