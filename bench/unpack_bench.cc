// Unpacks layer blobs from files, as a pull does but without a network, and prints the rates.
//   unpack_bench DIR THREADS BLOB…      DIR is made, must not exist, and is removed at the end
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/strings.h"
#include "image/unpack.h"
#include "sys/file.h"

namespace crisp {
namespace {

Result<image::UnpackedLayer> Unpack(const std::string& blob, const std::string& dir) {
  TRY(sys::MakeDir(dir, 0700));
  auto unpacker = TRY(image::LayerUnpacker::Start(dir));
  sys::UniqueFd fd = TRY(sys::Open(blob, O_RDONLY));
  std::string buffer(64 << 10, '\0');
  while (true) {
    ssize_t n = read(fd.get(), buffer.data(), buffer.size());
    if (n < 0) return Errno(errno, "read " + blob);
    if (n == 0) break;
    TRY(unpacker->Push({buffer.data(), static_cast<size_t>(n)}));
  }
  return unpacker->Finish();
}

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

int Main(const std::string& dir, int threads, const std::vector<std::string>& blobs) {
  if (Result<> made = sys::MakeDir(dir, 0700); !made) return std::fprintf(stderr, "%s\n", made.error().message().c_str()), 1;
  std::atomic<size_t> next = 0;
  std::atomic<uint64_t> blob_bytes = 0, archive_bytes = 0, failures = 0;
  auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (size_t n = next++; n < blobs.size(); n = next++) {
        auto begin = std::chrono::steady_clock::now();
        Result<image::UnpackedLayer> layer = Unpack(blobs[n], StrCat(dir, "/", n));
        if (!layer) {
          std::fprintf(stderr, "%s: %s\n", blobs[n].c_str(), layer.error().message().c_str());
          ++failures;
          continue;
        }
        blob_bytes += layer->blob_bytes;
        archive_bytes += layer->archive_bytes;
        std::printf("%s  %.0f MB/s  %s\n", blobs[n].c_str(), static_cast<double>(layer->archive_bytes) / 1e6 / Seconds(begin),
                    layer->diff_id.str().c_str());
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  double unpacked = Seconds(start);
  sys::UniqueFd fd(open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  syncfs(fd.get());
  double synced = Seconds(start);
  std::printf("%.0f MB packed, %.0f MB plain: unpacked %.2f s (%.0f MB/s), synced %.2f s (%.0f MB/s)\n",
              static_cast<double>(blob_bytes) / 1e6, static_cast<double>(archive_bytes) / 1e6, unpacked,
              static_cast<double>(archive_bytes) / 1e6 / unpacked, synced, static_cast<double>(archive_bytes) / 1e6 / synced);
  auto begin = std::chrono::steady_clock::now();
  if (Result<> removed = sys::RemoveTree(dir); !removed) std::fprintf(stderr, "%s\n", removed.error().message().c_str());
  std::printf("removed in %.2f s\n", Seconds(begin));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace crisp

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: unpack_bench DIR THREADS BLOB…\n"), 2;
  return crisp::Main(argv[1], std::atoi(argv[2]), {argv + 3, argv + argc});
}
