#include "native/criu.h"

#include <limits.h>
#include <linux/sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::native {

namespace {

using Words = std::vector<std::string>;

constexpr char kNetName[] = "extRootNetNS", kPidName[] = "extRootPidNS";
constexpr char kDescriptors[] = "/descriptors.json";

void Append(Words& out, std::initializer_list<std::string> words) { out.insert(out.end(), words); }

// Mounts that come from outside, by their place inside: the name that dump and restore have in common.
Words ExternalTargets(const std::vector<Mount>& mounts, const Words& masked_files) {
  Words targets;
  for (const Mount& mount : mounts) {
    if (mount.kind == Mount::kBind) targets.push_back(mount.target);
  }
  targets.insert(targets.end(), masked_files.begin(), masked_files.end());
  return targets;
}

bool IsFile(const std::string& path) {
  struct stat st{};
  return stat(path.c_str(), &st) == 0 && !S_ISDIR(st.st_mode);
}

bool IsOfKernel(const std::string& path) { return path.starts_with("/proc/") || path.starts_with("/sys/"); }

Words MaskedFiles(const Launch& launch, const std::string& root) {
  Words files;
  for (const std::string& path : launch.masked_paths) {
    if (IsFile(root + path)) files.push_back(path);
  }
  return files;
}

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  ssize_t n = readlink(path.c_str(), target, sizeof target);
  return n < 0 ? "" : std::string(target, static_cast<size_t>(n));
}

Error NotDone(std::string_view what) {
  return Error(Code::kUnimplemented, StrCat("checkpoint and restore of a container with ", what));
}

Result<> CheckDoable(const Launch& launch) {
  if (launch.process.terminal) return NotDone("a terminal");
  if ((launch.new_namespaces & CLONE_NEWUSER) != 0) return NotDone("a user namespace");
  for (const JoinNamespace& join : launch.join) {
    if (join.type == CLONE_NEWUSER) return NotDone("a user namespace");
  }
  return {};
}

Result<std::string> InodeOf(pid_t pid, const char* name) {
  struct stat st{};
  if (stat(StrCat("/proc/", pid, "/ns/", name).c_str(), &st) != 0)
    return Errno(errno, StrCat("namespace of process ", pid));
  return StrCat(st.st_ino);
}

Result<Words> KeptPipes(const std::string& images) {
  std::string text = TRY(sys::ReadFile(images + kDescriptors));
  Json json = TRY(ParseJson(text, "descriptors.json"));
  Words pipes;
  for (size_t fd = 0; fd < 3 && json.is_array() && fd < json.size(); ++fd) {
    std::string name = json[fd].is_string() ? json[fd].get<std::string>() : "";
    pipes.push_back(name.starts_with("pipe:") ? name : "");
  }
  return pipes;
}

}  // namespace

std::string JoinedNamespace(const Launch& launch, uint64_t type) {
  for (const JoinNamespace& join : launch.join) {
    if (join.type == type) return join.path;
  }
  return "";
}

Words DirArgs(const CriuDirs& dirs) { return {"--images-dir", dirs.images, "--work-dir", dirs.work, "-v4"}; }

Result<DumpPlan> PlanDump(const Launch& launch, pid_t pid, const std::string& freezer_dir) {
  TRY(CheckDoable(launch));
  DumpPlan plan;
  plan.pid = pid;
  plan.rootfs = launch.rootfs;
  plan.freezer_dir = freezer_dir;
  plan.mounts = launch.mounts;
  plan.masked_files = MaskedFiles(launch, StrCat("/proc/", pid, "/root"));
  if (!JoinedNamespace(launch, CLONE_NEWNET).empty()) plan.net_namespace_inode = TRY(InodeOf(pid, "net"));
  if (!JoinedNamespace(launch, CLONE_NEWPID).empty()) plan.pid_namespace_inode = TRY(InodeOf(pid, "pid"));
  return plan;
}

Words DumpArgs(const DumpPlan& plan) {
  Words out = {"--tree", StrCat(plan.pid), "--log-file", "dump.log", "--root", plan.rootfs};
  if (!plan.freezer_dir.empty()) Append(out, {"--freeze-cgroup", plan.freezer_dir});
  if (!plan.net_namespace_inode.empty())
    Append(out, {"--external", StrCat("net[", plan.net_namespace_inode, "]:", kNetName)});
  if (!plan.pid_namespace_inode.empty())
    Append(out, {"--external", StrCat("pid[", plan.pid_namespace_inode, "]:", kPidName)});
  for (const std::string& target : ExternalTargets(plan.mounts, plan.masked_files)) {
    Append(out, {"--external", StrCat("mnt[", target, "]:", target)});
  }
  return out;
}

Result<RestorePlan> PlanRestore(const Launch& launch, const CriuDirs& dirs) {
  TRY(CheckDoable(launch));
  for (const std::vector<Hook>* hooks : {&launch.prestart, &launch.create_runtime, &launch.create_container, &launch.start_container, &launch.poststart}) {
    if (!hooks->empty()) return NotDone("hooks");
  }
  RestorePlan plan;
  plan.mounts = launch.mounts;
  for (const std::string& path : launch.masked_paths) {
    // What the kernel will show in the container it shows here, too.
    if (IsFile(IsOfKernel(path) ? path : launch.rootfs + path)) plan.masked_files.push_back(path);
  }
  plan.pipes = TRY(KeptPipes(dirs.images));
  return plan;
}

Words RestoreArgs(const RestorePlan& plan) {
  // A sibling of criu's is a child of whoever starts it, as a container's process is that was started there.
  Words out = {"--restore-detached", "--restore-sibling", "--log-file", "restore.log", "--root", plan.root,
               "--pidfile",          plan.pid_file};
  for (const std::string& root : plan.cgroup_roots) Append(out, {"--cgroup-root", root});
  for (size_t fd = 0; fd < plan.pipes.size(); ++fd) {
    if (!plan.pipes[fd].empty()) Append(out, {"--inherit-fd", StrCat("fd[", fd, "]:", plan.pipes[fd])});
  }
  if (plan.net_namespace_fd >= 0) Append(out, {"--inherit-fd", StrCat("fd[", plan.net_namespace_fd, "]:", kNetName)});
  if (plan.pid_namespace_fd >= 0) Append(out, {"--inherit-fd", StrCat("fd[", plan.pid_namespace_fd, "]:", kPidName)});
  for (const Mount& mount : plan.mounts) {
    if (mount.kind == Mount::kBind) Append(out, {"--external", StrCat("mnt[", mount.target, "]:", mount.source)});
  }
  for (const std::string& file : plan.masked_files) Append(out, {"--external", StrCat("mnt[", file, "]:/dev/null")});
  return out;
}

Words CgroupRoots(const Host& host, const std::string& kernel_path) {
  Words roots;
  for (const Host::Hierarchy& hierarchy : host.hierarchies) {
    if (!hierarchy.controllers.empty()) roots.push_back(StrCat(hierarchy.controllers, ":", kernel_path));
    if (hierarchy.controllers.empty() && host.unified) roots.push_back(kernel_path);
  }
  return roots;
}

Result<> KeepDescriptors(pid_t pid, const std::string& images) {
  Json names = Json::array();
  for (int fd = 0; fd < 3; ++fd) names.push_back(ReadLink(StrCat("/proc/", pid, "/fd/", fd)));
  return sys::WriteFileAtomic(images + kDescriptors, DumpJson(names), 0600, sys::Durability::kNone);
}

Result<> MountRestoreRoot(const std::string& rootfs, const std::string& path) {
  TRY(sys::MakeDir(path, 0700));
  if (mount(rootfs.c_str(), path.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return Errno(errno, "bind " + rootfs);
  if (mount(nullptr, path.c_str(), nullptr, MS_PRIVATE | MS_REC, nullptr) != 0)
    return Errno(errno, "make private " + path);
  return {};
}

void ClearRestoreRoot(const std::string& path) {
  umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  rmdir(path.c_str());
}

}  // namespace crisp::native
