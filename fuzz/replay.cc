// Runs a fuzz target over the files of its seed corpus, and over every prefix and a few mutations of each, so that the
// replay is a test of its own where no fuzzer is at hand. Deterministic.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void Try(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
    return 2;
  }
  size_t files = 0, inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    ++files;
    Try(bytes);
    size_t step = bytes.size() / 200 + 1;
    uint32_t random = 1;
    for (size_t i = 0; i < bytes.size(); i += step) {
      Try(bytes.substr(0, i));
      random = random * 1664525 + 1013904223;
      std::string changed = bytes;
      changed[i] = static_cast<char>(random >> 24);
      Try(changed);
      inputs += 2;
    }
  }
  std::printf("%zu seeds, %zu inputs made of them\n", files, inputs);
  return files > 0 ? 0 : 1;  // an empty corpus tests nothing
}
