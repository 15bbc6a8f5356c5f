#include "runtime/testing.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::runtime::testing {

namespace fs = std::filesystem;

static std::string Output(const std::string& program, const std::vector<std::string>& args) {
  sys::Command command;
  command.program = program;
  command.args = args;
  return sys::Run(Ctx(), command).value().out;
}

Playground::Playground() {
  dir_ = "/tmp/crisp-runtime-test-" + RandomHex(6);
  cgroup_ = "/crisp-test-" + RandomHex(6);
  for (const char* sub : {"/rootfs/bin", "/rootfs/proc", "/rootfs/dev", "/rootfs/sys", "/rootfs/tmp", "/bundles", "/pods", "/state"}) {
    fs::create_directories(dir_ + sub);
  }
  std::string busybox(Trim(Output("/bin/sh", {"-c", "command -v busybox"})));
  fs::copy_file(busybox, dir_ + "/rootfs/bin/busybox");
  std::istringstream words(Output("ldd", {busybox}));
  for (std::string word; words >> word;) {
    if (word.starts_with('/')) {
      fs::create_directories(dir_ + "/rootfs" + fs::path(word).parent_path().string());
      fs::copy_file(word, dir_ + "/rootfs" + word, fs::copy_options::overwrite_existing);
    }
  }
  for (const char* name : {"sh", "sleep", "echo", "cat", "setsid", "true", "printf", "dd", "tail", "head", "seq", "stty", "yes", "ls", "hostname", "kill", "sha256sum"}) {
    fs::create_symlink("busybox", dir_ + "/rootfs/bin/" + name);
  }
}

Playground::~Playground() {
  std::error_code ignored;
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup", ignored)) {
    std::string top = hierarchy.path().string() + cgroup_;
    std::vector<std::string> dirs;
    for (auto it = fs::recursive_directory_iterator(top, ignored); it != fs::recursive_directory_iterator(); it.increment(ignored)) {
      if (it->is_directory(ignored)) dirs.push_back(it->path());
    }
    for (auto dir = dirs.rbegin(); dir != dirs.rend(); ++dir) rmdir(dir->c_str());
    rmdir(top.c_str());
  }
  if (fs::exists("/sys/fs/cgroup" + cgroup_, ignored)) rmdir(("/sys/fs/cgroup" + cgroup_).c_str());
  (void)sys::RemoveTree(dir_).has_value();
}

Json Process(const std::vector<std::string>& command) {
  Json caps = {"CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"};
  return {{"terminal", false},
          {"user", {{"uid", 0}, {"gid", 0}}},
          {"args", command},
          {"env", {"PATH=/bin"}},
          {"cwd", "/"},
          {"capabilities", {{"bounding", caps}, {"effective", caps}, {"permitted", caps}}},
          {"noNewPrivileges", true}};
}

std::string Playground::MakeBundle(const ContainerId& id, const std::vector<std::string>& command,
                                   const std::function<void(Json&)>& adjust) {
  std::string bundle = dir_ + "/bundles/" + id.str();
  fs::create_directories(bundle);
  Json mounts = Json::array();
  mounts.push_back({{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}});
  mounts.push_back({{"destination", "/dev"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"nosuid", "mode=755"}}});
  mounts.push_back({{"destination", "/dev/pts"},
                    {"type", "devpts"},
                    {"source", "devpts"},
                    {"options", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}}});
  Json namespaces = Json::array();
  for (const char* type : {"pid", "mount", "ipc", "uts"}) namespaces.push_back({{"type", type}});
  Json config = {{"ociVersion", "1.0.2"},
                 {"process", Process(command)},
                 {"root", {{"path", dir_ + "/rootfs"}, {"readonly", true}}},
                 {"mounts", mounts},
                 {"linux", {{"namespaces", namespaces}, {"cgroupsPath", cgroup_ + "/" + id.str()}}}};
  if (adjust) adjust(config);
  std::ofstream(bundle + "/config.json") << DumpJson(config);
  return bundle;
}

std::string Playground::CgroupDir(const std::string& controller, const ContainerId& id) const {
  std::string v1 = "/sys/fs/cgroup/" + controller;
  return (fs::exists(v1) ? v1 : "/sys/fs/cgroup") + cgroup_ + "/" + id.str();
}

std::vector<std::string> ChildrenOf(pid_t parent) {
  std::vector<std::string> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::optional<pid_t> pid = ParseInt<pid_t>(entry.path().filename().string());
    if (!pid) continue;
    Result<std::string> stat = sys::ReadFile(StrCat("/proc/", *pid, "/stat"));
    if (!stat) continue;
    size_t end = stat->rfind(')');
    std::vector<std::string_view> fields = SplitWords(std::string_view(*stat).substr(end + 1));
    if (fields.size() > 1 && ParseInt<pid_t>(fields[1]) == parent) {
      children.push_back(stat->substr(0, end + 1) + " " + std::string(fields[0]));
    }
  }
  return children;
}

size_t CountFds(pid_t pid) {
  size_t count = 0;
  std::error_code ignored;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(StrCat("/proc/", pid, "/fd"), ignored)) ++count;
  return count;
}

bool IsAlive(pid_t pid) {
  Result<std::string> stat = sys::ReadFile(StrCat("/proc/", pid, "/stat"));
  if (!stat) return false;
  size_t end = stat->rfind(')');
  return stat->substr(end + 2, 1) != "Z";
}

}  // namespace crisp::runtime::testing
