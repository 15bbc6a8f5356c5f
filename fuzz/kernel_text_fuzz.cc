// Files of cgroups and of /proc: names in them are chosen by those who run in pods.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cgroup/usage_text.h"
#include "sys/net_dev.h"
#include "sys/process_info.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  using namespace crisp;
  (void)cgroup::NumberOf(text);
  (void)cgroup::ValueOf(text, "total_rss");
  (void)cgroup::ParsePressure(text);
  (void)sys::ParseSoftOpenFilesLimit(text);
  size_t half = size / 2;
  for (const auto& devices : {cgroup::ParseIoStat(text), cgroup::ParseBlkio(text.substr(0, half), text.substr(half))}) {
    if (devices.size() > cgroup::kDevicesMax) std::abort();
    for (size_t i = 1; i < devices.size(); ++i) {
      // One series for each device: a doubled one spoils all metrics of a node.
      if (devices[i - 1].major == devices[i].major && devices[i - 1].minor == devices[i].minor) std::abort();
    }
  }
  auto links = sys::ParseNetDev(text);
  if (links.size() > sys::kLinksMax) std::abort();
  for (const auto& link : links) {
    if (link.name.empty()) std::abort();
  }
  return 0;
}
