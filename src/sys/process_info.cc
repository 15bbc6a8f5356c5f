#include "sys/process_info.h"

#include <dirent.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::sys {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

}  // namespace

OpenDescriptors CountDescriptors(pid_t pid, uint64_t max) {
  OpenDescriptors out;
  std::unique_ptr<DIR, CloseDir> dir(opendir(StrCat("/proc/", pid, "/fd").c_str()));
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir.get())) {
    if (entry->d_name[0] == '.') continue;
    if (out.all == max) break;
    ++out.all;
    char target[8];  // "socket:[inode]"
    ssize_t n = readlinkat(dirfd(dir.get()), entry->d_name, target, sizeof target);
    if (n >= 7 && std::string_view(target, 7) == "socket:") ++out.sockets;
  }
  return out;
}

std::optional<uint64_t> ParseSoftOpenFilesLimit(std::string_view limits) {
  constexpr std::string_view kName = "Max open files";
  for (std::string_view line : Split(limits, '\n')) {
    if (!line.starts_with(kName)) continue;
    std::vector<std::string_view> words = SplitWords(line.substr(kName.size()));
    return words.empty() ? std::nullopt : ParseInt<uint64_t>(words[0]);
  }
  return std::nullopt;
}

std::optional<uint64_t> SoftOpenFilesLimit(pid_t pid) {
  Result<std::string> text = ReadFile(StrCat("/proc/", pid, "/limits"), 64u << 10);
  return text ? ParseSoftOpenFilesLimit(*text) : std::nullopt;
}

std::optional<ProcessStat> ParseProcessStat(std::string_view stat) {
  size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  std::vector<std::string_view> words = SplitWords(stat.substr(name_end + 1));
  constexpr size_t kState = 0, kParent = 1, kStartTime = 19;  // fields 3, 4 and 22
  if (words.size() <= kStartTime || words[kState].size() != 1) return std::nullopt;
  std::optional<uint64_t> start = ParseInt<uint64_t>(words[kStartTime]);
  if (!start) return std::nullopt;
  return ProcessStat{words[kState][0], *start, ParseInt<pid_t>(words[kParent]).value_or(0)};
}

std::optional<ProcessStat> ReadProcessStat(pid_t pid) {
  Result<std::string> text = ReadFile(StrCat("/proc/", pid, "/stat"), 64u << 10);
  return text ? ParseProcessStat(*text) : std::nullopt;
}

}  // namespace crisp::sys
