// Counters of network interfaces (/proc/PID/net/dev, proc(5)), also of other network namespaces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::sys {

struct LinkCounters {
  std::string name;
  struct Direction {
    uint64_t bytes = 0, packets = 0, errors = 0, dropped = 0;
  };
  Direction received, sent;
};

// Pure. Lines that do not parse are left out; at most kLinksMax links: a pod may make as many as it likes.
inline constexpr size_t kLinksMax = 64;
std::vector<LinkCounters> ParseNetDev(std::string_view text);

// The interfaces of each of these pinned namespaces, in their order, without lo. Absent: the namespace is gone, or
// cannot be read. One thread enters all of them, one after the other, and ends; nothing keeps a namespace open
// afterwards. Blocking: about 30 us for each. kResourceExhausted: there is no thread to be had.
Result<std::vector<std::optional<std::vector<LinkCounters>>>> ReadLinkCounters(
    const std::vector<std::string>& netns_paths);

}  // namespace crisp::sys
