// The foreign texts of checkpoints: config.dump, spec.dump, deleted.files, pod.dump and names of members. Paths that
// are accepted stay below where they belong.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "checkpoint/format.h"

namespace {

void ExpectInside(const std::string& path) {
  if (path.empty() || path.starts_with('/') || ("/" + path + "/").find("/../") != std::string::npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp::checkpoint;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ParseContainerDump(text).has_value();
  if (auto targets = ParseBindTargets(text)) {
    for (const std::string& target : *targets) ExpectInside(target.substr(1));
  }
  if (auto paths = ParseDeletedFiles(text)) {
    for (const std::string& path : *paths) ExpectInside(path);
  }
  if (auto pod = ParsePodDump(text)) {
    for (const PodDump::Member& member : pod->members) {
      if (member.archive.find('/') != std::string::npos) std::abort();
    }
  }
  if (auto name = MemberName(text)) ExpectInside(*name);
  (void)LastErrorOfCriuLog(text);
  return 0;
}
