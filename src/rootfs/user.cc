#include "rootfs/user.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"

namespace crisp::rootfs {

namespace {

constexpr size_t kFileBytesMax = 1u << 20;
constexpr size_t kLineBytesMax = 16u << 10;
constexpr int64_t kIdMax = 0x7fffffff;  // what runc takes; also keeps (uid_t)-1 away

Error Invalid(std::string message) { return Error(Code::kInvalidArgument, std::move(message)); }

bool AllDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// A plain number in range, or nothing.
std::optional<uint32_t> ParseId(std::string_view text) {
  if (!AllDigits(text) || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  auto value = ParseInt<int64_t>(text);
  if (!value || *value > kIdMax) return std::nullopt;
  return static_cast<uint32_t>(*value);
}

struct IdOrName {
  std::optional<uint32_t> id;
  std::string name;
};

Result<IdOrName> ParseIdOrName(std::string_view text, std::string_view what) {
  IdOrName out;
  out.id = ParseId(text);
  if (out.id) return out;
  bool looks_like_number =
      AllDigits(text) || text[0] == '-' || text[0] == '+' || text.starts_with("0x") || text.starts_with("0X");
  bool foreign =
      std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f || c == '/'; });
  if (looks_like_number) return Invalid(StrCat(what, " ", Quote(text), " is not a number from 0 to ", kIdMax));
  if (foreign || text.size() > 256) return Invalid(StrCat(what, " ", Quote(text), " is not a name"));
  out.name = text;
  return out;
}

}  // namespace

Result<UserText> ParseUserText(std::string_view text) {
  UserText out;
  if (text.empty()) return out;
  size_t colon = text.find(':');
  std::string_view user = text.substr(0, colon);
  if (user.empty()) return Invalid(StrCat("user ", Quote(text), " has an empty name"));
  IdOrName parsed = TRY(ParseIdOrName(user, "user"));
  out.uid = parsed.id;
  out.user = parsed.name;
  if (colon == std::string_view::npos) return out;
  std::string_view group = text.substr(colon + 1);
  if (group.empty()) return Invalid(StrCat("user ", Quote(text), " has an empty group"));
  parsed = TRY(ParseIdOrName(group, "group"));
  out.gid = parsed.id;
  out.group = parsed.name;
  return out;
}

namespace {

// "" when the file is not there. It is looked at before it is opened: opening a pipe would block and opening some
// devices does things.
Result<std::string> ReadImageFile(sys::BorrowedFd root, const std::string& path) {
  Result<sys::UniqueFd> found = sys::OpenInRoot(root, path, O_PATH);
  if (!found) {
    int err = found.error().os_errno();
    if (err == ENOENT || err == ENOTDIR) return std::string();
    return std::move(found).error();
  }
  struct stat info;
  if (fstat(found->get(), &info) != 0) return Errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return Error(Code::kFailedPrecondition, path + " of the image is not a regular file");
  if (info.st_size > static_cast<off_t>(kFileBytesMax)) {
    return Error(Code::kFailedPrecondition,
                 StrCat(path, " of the image has ", info.st_size, " bytes, more than ", kFileBytesMax));
  }
  sys::UniqueFd fd = TRY(sys::Open(StrCat("/proc/self/fd/", found->get()), O_RDONLY | O_NONBLOCK | O_NOCTTY));
  return TRY(sys::ReadAll(fd, kFileBytesMax), path + " of the image");
}

// Fields of each line that has at least `fields_min`; overlong lines, comments and NIS entries ("+…") are skipped.
template <class Fn>
void ForEachEntry(std::string_view text, size_t fields_min, Fn&& fn) {
  for (std::string_view line : Split(text, '\n')) {
    if (line.empty() || line.size() > kLineBytesMax || line[0] == '#' || line[0] == '+' || line[0] == '-') continue;
    std::vector<std::string_view> fields = Split(line, ':');
    if (fields.size() < fields_min || fields[0].empty()) continue;
    if (!fn(fields)) return;
  }
}

struct PasswdEntry {
  std::string name, home;
  uint32_t uid = 0, gid = 0;
};

// The first entry that matches, as getpwnam and getpwuid have it.
std::optional<PasswdEntry> FindPasswd(std::string_view text, const UserText& wanted) {
  std::optional<PasswdEntry> found;
  ForEachEntry(text, 4, [&](const std::vector<std::string_view>& fields) {
    auto uid = ParseId(fields[2]), gid = ParseId(fields[3]);
    if (!uid || !gid) return true;
    if (wanted.uid ? *uid != *wanted.uid : fields[0] != wanted.user) return true;
    found = PasswdEntry{.name = std::string(fields[0]),
                        .home = std::string(fields.size() > 5 ? fields[5] : ""),
                        .uid = *uid,
                        .gid = *gid};
    return false;
  });
  return found;
}

std::optional<uint32_t> FindGroup(std::string_view text, std::string_view name) {
  std::optional<uint32_t> found;
  ForEachEntry(text, 3, [&](const std::vector<std::string_view>& fields) {
    if (fields[0] == name) found = ParseId(fields[2]);
    return !found;
  });
  return found;
}

std::vector<uint32_t> GroupsOfMember(std::string_view text, std::string_view name) {
  std::vector<uint32_t> gids;
  ForEachEntry(text, 4, [&](const std::vector<std::string_view>& fields) {
    auto gid = ParseId(fields[2]);
    std::vector<std::string_view> members = Split(fields[3], ',');
    if (gid && std::find(members.begin(), members.end(), name) != members.end()) gids.push_back(*gid);
    return gids.size() < 65536;  // NGROUPS_MAX
  });
  return gids;
}

Result<uint32_t> CheckedId(int64_t id, std::string_view what) {
  if (id < 0 || id > kIdMax) return Invalid(StrCat(what, " ", id, " is not from 0 to ", kIdMax));
  return static_cast<uint32_t>(id);
}

// The request goes before the image. run_as_group alone: the CRI says it "must only be specified" with a user.
Result<UserText> Wanted(const UserRequest& request) {
  UserText wanted;
  if (request.run_as_user) {
    wanted.uid = TRY(CheckedId(*request.run_as_user, "run_as_user"));
  } else if (!request.run_as_username.empty()) {
    IdOrName parsed = TRY(ParseIdOrName(request.run_as_username, "run_as_username"));
    wanted.uid = parsed.id;
    wanted.user = parsed.name;
  } else if (request.run_as_group) {
    return Invalid("run_as_group without run_as_user or run_as_username");
  } else {
    wanted = TRY(ParseUserText(request.image_user), "USER of the image");
  }
  if (request.run_as_group) {
    wanted.gid = TRY(CheckedId(*request.run_as_group, "run_as_group"));
    wanted.group.clear();
  }
  if (!wanted.uid && wanted.user.empty()) wanted.uid = 0;
  return wanted;
}

// A home that can stand in one environment variable and one line.
std::string CleanHome(std::string home) {
  bool good = !home.empty() && home[0] == '/' && IsValidUtf8(home) &&
              std::none_of(home.begin(), home.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
  return good ? home : "/";
}

}  // namespace

Result<User> ResolveUserIn(std::string_view passwd, std::string_view group, const UserRequest& request) {
  UserText wanted = TRY(Wanted(request));
  std::optional<PasswdEntry> entry = FindPasswd(passwd, wanted);
  if (!wanted.uid && !entry) return Invalid(StrCat("user ", Quote(wanted.user), " is not in /etc/passwd of the image"));
  User user;
  user.uid = wanted.uid ? *wanted.uid : entry->uid;
  user.gid = entry ? entry->gid : 0;
  if (entry) user.name = entry->name;
  user.home = CleanHome(entry ? entry->home : "");
  if (wanted.gid) user.gid = *wanted.gid;
  if (!wanted.group.empty()) {
    auto gid = FindGroup(group, wanted.group);
    if (!gid) return Invalid(StrCat("group ", Quote(wanted.group), " is not in /etc/group of the image"));
    user.gid = *gid;
  }
  user.additional_gids.push_back(user.gid);
  for (int64_t gid : request.supplemental_groups) {
    user.additional_gids.push_back(TRY(CheckedId(gid, "supplemental group")));
  }
  if (request.merge_image_groups && !user.name.empty()) {
    for (uint32_t gid : GroupsOfMember(group, user.name)) user.additional_gids.push_back(gid);
  }
  std::sort(user.additional_gids.begin(), user.additional_gids.end());
  auto last = std::unique(user.additional_gids.begin(), user.additional_gids.end());
  user.additional_gids.erase(last, user.additional_gids.end());
  return user;
}

Result<User> ResolveUser(sys::BorrowedFd root, const UserRequest& request) {
  std::string passwd = TRY(ReadImageFile(root, "/etc/passwd"));
  std::string group = TRY(ReadImageFile(root, "/etc/group"));
  return ResolveUserIn(passwd, group, request);
}

}  // namespace crisp::rootfs
