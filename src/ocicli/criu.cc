#include "ocicli/criu.h"

#include "base/strings.h"

namespace crisp::ocicli {

namespace {

using Words = std::vector<std::string>;

constexpr char kNetName[] = "extRootNetNS";

void Append(Words& out, std::initializer_list<std::string> words) { out.insert(out.end(), words); }

// Mounts that come from outside, by their place inside: the name that dump and restore have in common.
Words ExternalTargets(const std::vector<native::Mount>& mounts, const Words& masked_files) {
  Words targets;
  for (const native::Mount& mount : mounts) {
    if (mount.kind == native::Mount::kBind) targets.push_back(mount.target);
  }
  targets.insert(targets.end(), masked_files.begin(), masked_files.end());
  return targets;
}

}  // namespace

Words SharedCriuArgs(const Flags& flags, const std::string& images_dir, const std::string& work_dir) {
  Words out = {"--images-dir", images_dir, "--work-dir", work_dir, "-v4"};
  for (const char* same : {"tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup", "lazy-pages"}) {
    if (flags.On(same)) out.push_back(StrCat("--", same));
  }
  out.push_back(StrCat("--manage-cgroups=", flags.Text("manage-cgroups-mode", "soft")));
  for (const std::string& type : flags.List("empty-ns")) Append(out, {"--empty-ns", type});
  return out;
}

Words DumpArgs(const Flags& flags, const DumpPlan& plan, const std::string& images_dir, const std::string& work_dir) {
  bool pre_dump = flags.On("pre-dump");
  Words out = {pre_dump ? "pre-dump" : "dump", "--tree", StrCat(plan.pid), "--log-file", "dump.log", "--root", plan.rootfs};
  Words shared = SharedCriuArgs(flags, images_dir, work_dir);
  out.insert(out.end(), shared.begin(), shared.end());
  if (flags.On("leave-running") && !pre_dump) out.push_back("--leave-running");
  if (pre_dump || flags.Has("parent-path")) out.push_back("--track-mem");
  if (flags.Has("parent-path")) Append(out, {"--prev-images-dir", flags.Text("parent-path")});
  if (flags.Has("status-fd")) Append(out, {"--status-fd", flags.Text("status-fd")});
  if (flags.Has("page-server")) {
    std::string server = flags.Text("page-server");
    size_t colon = server.rfind(':');
    Append(out, {"--page-server", "--address", server.substr(0, colon), "--port", colon == std::string::npos ? "" : server.substr(colon + 1)});
  }
  if (!plan.freezer_dir.empty()) Append(out, {"--freeze-cgroup", plan.freezer_dir});
  if (!plan.net_namespace_inode.empty()) Append(out, {"--external", StrCat("net[", plan.net_namespace_inode, "]:", kNetName)});
  for (const std::string& target : ExternalTargets(plan.mounts, plan.masked_files)) {
    Append(out, {"--external", StrCat("mnt[", target, "]:", target)});
  }
  return out;
}

Words RestoreArgs(const Flags& flags, const RestorePlan& plan, const std::string& images_dir, const std::string& work_dir) {
  // A sibling of criu's is a child of ours, as a container's process is that we make ourselves.
  Words out = {"restore", "--restore-detached", "--restore-sibling", "--log-file", "restore.log", "--root", plan.root, "--pidfile", plan.pid_file};
  Words shared = SharedCriuArgs(flags, images_dir, work_dir);
  out.insert(out.end(), shared.begin(), shared.end());
  for (const std::string& root : plan.cgroup_roots) Append(out, {"--cgroup-root", root});
  for (size_t fd = 0; fd < plan.pipes.size(); ++fd) {
    if (!plan.pipes[fd].empty()) Append(out, {"--inherit-fd", StrCat("fd[", fd, "]:", plan.pipes[fd])});
  }
  if (plan.net_namespace_fd >= 0) Append(out, {"--inherit-fd", StrCat("fd[", plan.net_namespace_fd, "]:", kNetName)});
  for (const native::Mount& mount : plan.mounts) {
    if (mount.kind == native::Mount::kBind) Append(out, {"--external", StrCat("mnt[", mount.target, "]:", mount.source)});
  }
  for (const std::string& file : plan.masked_files) Append(out, {"--external", StrCat("mnt[", file, "]:/dev/null")});
  if (flags.Has("lsm-profile")) Append(out, {"--lsm-profile", flags.Text("lsm-profile")});
  if (flags.Has("lsm-mount-context")) Append(out, {"--lsm-mount-context", flags.Text("lsm-mount-context")});
  return out;
}

Words CgroupRoots(const cgroup::Layout& layout, const std::string& kernel_path) {
  Words roots;
  for (const cgroup::Hierarchy& hierarchy : layout.hierarchies) {
    std::string controllers = hierarchy.name.empty() ? "" : "name=" + hierarchy.name;
    for (const std::string& each : hierarchy.controllers) controllers += StrCat(controllers.empty() ? "" : ",", each);
    if (!hierarchy.v2) roots.push_back(StrCat(controllers, ":", kernel_path));
    if (hierarchy.v2 && layout.unified) roots.push_back(kernel_path);
  }
  return roots;
}

}  // namespace crisp::ocicli
