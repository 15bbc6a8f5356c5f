#include "sys/net_dev.h"

#include <sched.h>

#include "base/strings.h"
#include "base/thread.h"
#include "sys/file.h"
#include "sys/netns.h"

namespace crisp::sys {
namespace {

// "eth0: 16 columns": eight of what came in, eight of what went out. An interface's name may have a colon in it.
std::optional<LinkCounters> ParseLine(std::string_view line) {
  size_t colon = line.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view name = Trim(line.substr(0, colon));
  std::vector<std::string_view> columns = SplitWords(line.substr(colon + 1));
  if (name.empty() || columns.size() < 16) return std::nullopt;
  uint64_t numbers[12];
  for (size_t i = 0; i < 12; ++i) {
    std::optional<uint64_t> number = ParseInt<uint64_t>(columns[i]);
    if (!number) return std::nullopt;
    numbers[i] = *number;
  }
  auto direction = [&](size_t at) -> LinkCounters::Direction {
    return {.bytes = numbers[at], .packets = numbers[at + 1], .errors = numbers[at + 2], .dropped = numbers[at + 3]};
  };
  return LinkCounters{.name = std::string(name), .received = direction(0), .sent = direction(8)};
}

// On a thread that may be anywhere afterwards.
std::optional<std::vector<LinkCounters>> EnterAndRead(const std::string& netns_path) {
  Result<UniqueFd> netns = Open(netns_path, O_RDONLY);
  // Refuses whatever is no network namespace (the bind mount is gone, and this is the file below it).
  if (!netns || setns(netns->get(), CLONE_NEWNET) != 0) return std::nullopt;
  // /proc/net would be the main thread's.
  Result<std::string> text = ReadFile("/proc/thread-self/net/dev", 1u << 20);
  if (!text) return std::nullopt;
  std::vector<LinkCounters> links = ParseNetDev(*text);
  std::erase_if(links, [](const LinkCounters& link) { return link.name == "lo"; });
  return links;
}

}  // namespace

std::vector<LinkCounters> ParseNetDev(std::string_view text) {
  std::vector<LinkCounters> out;
  for (std::string_view line : Split(text, '\n')) {
    if (out.size() == kLinksMax) break;
    if (std::optional<LinkCounters> link = ParseLine(line)) out.push_back(*std::move(link));
  }
  return out;
}

Result<std::vector<std::optional<std::vector<LinkCounters>>>> ReadLinkCounters(
    const std::vector<std::string>& netns_paths) {
  std::vector<std::optional<std::vector<LinkCounters>>> out(netns_paths.size());
  if (netns_paths.empty()) return out;
  std::thread thread = TRY(StartThread([&] {
    for (size_t i = 0; i < netns_paths.size(); ++i) out[i] = EnterAndRead(netns_paths[i]);
  }));
  thread.join();
  return out;
}

}  // namespace crisp::sys
