#include "sys/mountinfo.h"

#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::sys {

namespace {

std::string DecodeOctal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    std::optional<unsigned> value;
    if (text[i] == '\\' && i + 3 < text.size()) value = ParseInt<unsigned>(text.substr(i + 1, 3), 8);
    if (value && *value < 256) {
      out.push_back(static_cast<char>(*value));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<std::string> SplitOptions(std::string_view text) {
  std::vector<std::string> out;
  for (std::string_view option : Split(text, ',')) out.emplace_back(option);
  return out;
}

int PeerGroup(std::string_view field, std::string_view name) {
  if (!field.starts_with(name)) return 0;
  return ParseInt<int>(field.substr(name.size())).value_or(0);
}

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"; any number of optional fields
// stands before the single hyphen.
bool ParseLine(std::string_view line, MountInfo& out) {
  std::vector<std::string_view> fields = Split(line, ' ');
  size_t hyphen = 6;
  while (hyphen < fields.size() && fields[hyphen] != "-") ++hyphen;
  if (hyphen + 3 > fields.size() - 1) return false;
  auto id = ParseInt<int>(fields[0]), parent = ParseInt<int>(fields[1]);
  if (!id || !parent) return false;
  out.id = *id;
  out.parent = *parent;
  out.root = DecodeOctal(fields[3]);
  out.mountpoint = DecodeOctal(fields[4]);
  out.options = SplitOptions(fields[5]);
  for (size_t i = 6; i < hyphen; ++i) {
    if (int group = PeerGroup(fields[i], "shared:")) out.shared = group;
    if (int group = PeerGroup(fields[i], "master:")) out.master = group;
  }
  out.fstype = fields[hyphen + 1];
  out.source = DecodeOctal(fields[hyphen + 2]);
  out.super_options = SplitOptions(fields[hyphen + 3]);
  return true;
}

bool Contains(std::string_view mountpoint, std::string_view path) {
  if (mountpoint == "/") return true;
  return path.starts_with(mountpoint) && (path.size() == mountpoint.size() || path[mountpoint.size()] == '/');
}

}  // namespace

std::vector<MountInfo> ParseMountInfo(std::string_view text) {
  std::vector<MountInfo> mounts;
  for (std::string_view line : Split(text, '\n')) {
    MountInfo mount;
    if (!line.empty() && ParseLine(line, mount)) mounts.push_back(std::move(mount));
  }
  return mounts;
}

Result<std::vector<MountInfo>> ReadMountInfo(const std::string& path) {
  return ParseMountInfo(TRY(ReadFile(path, 64u << 20)));
}

Result<> EachMountOf(std::string_view fstype, const std::string& path, const std::function<bool(MountInfo)>& more) {
  UniqueFd file = TRY(Open(path, O_RDONLY));
  const std::string wanted = StrCat(" - ", fstype);
  std::string text;   // from the beginning of a line on
  char buffer[4096];  // about what the kernel gives at once
  while (true) {
    ssize_t n = read(file.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read " + path);
    if (n == 0 && text.empty()) return {};
    n == 0 ? text.append("\n") : text.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string_view line = std::string_view(text).substr(begin, end - begin);
      MountInfo mount;
      if (line.find(wanted) == std::string_view::npos || !ParseLine(line, mount)) continue;
      if (mount.fstype.starts_with(fstype) && !more(std::move(mount))) return {};
    }
    text.erase(0, begin);
  }
}

const MountInfo* FindMount(const std::vector<MountInfo>& mounts, std::string_view path) {
  const MountInfo* best = nullptr;
  for (const MountInfo& mount : mounts) {
    if (!Contains(mount.mountpoint, path)) continue;
    if (best == nullptr || mount.mountpoint.size() >= best->mountpoint.size()) best = &mount;
  }
  return best;
}

}  // namespace crisp::sys
