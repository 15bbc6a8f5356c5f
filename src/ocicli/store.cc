#include "ocicli/store.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/json.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/process_info.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

constexpr int64_t kFormat = 1;

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

Result<> Flock(sys::BorrowedFd file, int how) {
  int r;
  do {
    r = flock(file.get(), how);
  } while (r != 0 && errno == EINTR);
  return r == 0 ? Result<>() : Result<>(Errno(errno, "lock the container"));
}

}  // namespace

std::string ToJson(const Record& record) {
  Json json = {{"format", kFormat},
               {"id", record.id},
               {"bundle", record.bundle},
               {"rootfs", record.rootfs},
               {"ociVersion", record.oci_version},
               {"createdUnixNanos", record.created_unix_nanos},
               {"owner", record.owner},
               {"pid", record.pid},
               {"pidStartTicks", record.pid_start_ticks},
               {"cgroupPath", record.cgroup_path},
               {"systemd", record.systemd}};
  json["annotations"] = Json::parse(record.annotations, nullptr, false);
  return DumpJson(json);
}

Result<Record> RecordFromJson(std::string_view text) {
  Json json = TRY(ParseJson(text, "state.json"));
  if (!json.is_object()) return Error(Code::kDataLoss, "state.json is not an object");
  int64_t format = TRY(JsonGet<int64_t>(json, "format"));
  if (format != kFormat) return Error(Code::kDataLoss, StrCat("state.json has format ", format, ", this program knows ", kFormat));
  Record record;
  record.id = TRY(JsonGet<std::string>(json, "id"));
  record.bundle = TRY(JsonGet<std::string>(json, "bundle"));
  record.rootfs = TRY(JsonGet<std::string>(json, "rootfs"));
  record.oci_version = TRY(JsonGet<std::string>(json, "ociVersion"));
  record.created_unix_nanos = TRY(JsonGet<int64_t>(json, "createdUnixNanos"));
  record.owner = TRY(JsonGet<std::string>(json, "owner"));
  int64_t pid = TRY(JsonGet<int64_t>(json, "pid"));
  if (pid < 0 || pid > INT32_MAX || pid == 1) return Error(Code::kDataLoss, StrCat("state.json: pid ", pid));
  record.pid = static_cast<pid_t>(pid);
  record.pid_start_ticks = TRY(JsonGet<uint64_t>(json, "pidStartTicks"));
  record.cgroup_path = TRY(JsonGet<std::string>(json, "cgroupPath"));
  record.systemd = TRY(JsonGet<bool>(json, "systemd"));
  if (json.contains("annotations") && json["annotations"].is_object()) record.annotations = DumpJson(json["annotations"]);
  return record;
}

bool IsAlive(const Record& record) {
  if (record.pid <= 0) return false;
  std::optional<sys::ProcessStat> stat = sys::ReadProcessStat(record.pid);
  return stat && stat->start_ticks == record.pid_start_ticks && stat->state != 'Z' && stat->state != 'X';
}

Result<sys::UniqueFd> OpenProcess(const Record& record) {
  auto gone = [&] { return Error(Code::kNotFound, StrCat("container ", record.id, ": its process has ended")); };
  if (record.pid <= 0) return gone();
  Result<sys::UniqueFd> pidfd = sys::PidfdOpen(record.pid);
  // Looked at after it was opened: so the descriptor is that process's, whoever gets its number.
  if (!pidfd || !IsAlive(record)) return gone();
  return pidfd;
}

Result<> CheckId(const std::string& id) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
  constexpr size_t kBytesMax = 255;
  bool good = !id.empty() && id.size() <= kBytesMax && id != "." && id != ".." && id.find_first_not_of(kAllowed) == std::string::npos;
  return good ? Result<>() : Result<>(Error(Code::kInvalidArgument, StrCat("container id ", Quote(id), " is not valid")));
}

Result<sys::UniqueFd> Store::Lock(const std::string& id) const {
  TRY(CheckId(id));
  Result<sys::UniqueFd> file = sys::Open(File(id, "lock"), O_RDWR);
  if (!file && file.error().code() == Code::kNotFound) {
    return Error(Code::kNotFound, StrCat("container ", Quote(id), " does not exist"));
  }
  if (!file) return file;
  TRY(Flock(*file, LOCK_EX));
  // Deleted while we waited, and perhaps made anew.
  struct stat held{}, there{};
  if (fstat(file->get(), &held) != 0 || stat(File(id, "lock").c_str(), &there) != 0 || held.st_ino != there.st_ino) {
    return Error(Code::kNotFound, StrCat("container ", Quote(id), " does not exist any more"));
  }
  return file;
}

bool Store::Busy(const std::string& id) const {
  Result<sys::UniqueFd> file = sys::Open(File(id, "lock"), O_RDONLY);
  return file && flock(file->get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<sys::UniqueFd> Store::Create(const std::string& id) const {
  TRY(CheckId(id));
  TRY(sys::MakeDirs(root_, 0700));
  std::string dir = StrCat(root_, "/", id);
  if (mkdir(dir.c_str(), 0711) != 0) {
    if (errno == EEXIST) return Error(Code::kAlreadyExists, StrCat("container with id ", Quote(id), " exists already"));
    return Errno(errno, "make " + dir);
  }
  sys::UniqueFd file = TRY(sys::Open(File(id, "lock"), O_RDWR | O_CREAT | O_EXCL, 0600));
  TRY(Flock(file, LOCK_EX));
  return file;
}

Result<Record> Store::Load(const std::string& id) const {
  TRY(CheckId(id));
  Result<std::string> text = sys::ReadFile(File(id, "state.json"));
  if (!text && text.error().code() == Code::kNotFound) {
    return Error(Code::kNotFound, StrCat("container ", Quote(id), " does not exist"));
  }
  if (!text) return std::move(text).error();
  Record record = TRY(RecordFromJson(*text), "container " + id);
  if (record.id != id) return Error(Code::kDataLoss, StrCat("container ", id, ": its record is that of ", Quote(record.id)));
  return record;
}

Result<> Store::Save(const Record& record) const {
  return sys::WriteFileAtomic(File(record.id, "state.json"), ToJson(record), 0600, sys::Durability::kNone);
}

Result<> Store::Remove(const std::string& id) const {
  TRY(CheckId(id));
  return sys::RemoveTree(StrCat(root_, "/", id));
}

Result<std::vector<std::string>> Store::Ids() const {
  std::vector<std::string> ids;
  std::unique_ptr<DIR, CloseDir> dir(opendir(root_.c_str()));
  if (dir == nullptr) return errno == ENOENT ? Result<std::vector<std::string>>(ids) : Errno(errno, "open " + root_);
  while (const dirent* entry = readdir(dir.get())) {
    if (CheckId(entry->d_name) && sys::Exists(File(entry->d_name, "state.json"))) ids.emplace_back(entry->d_name);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::string Store::StatusOf(const Record& record) const {
  if (record.pid == 0) return Busy(record.id) ? "creating" : "stopped";
  if (!IsAlive(record)) return "stopped";
  return sys::Exists(File(record.id, "start")) ? "created" : "running";
}

}  // namespace crisp::ocicli
