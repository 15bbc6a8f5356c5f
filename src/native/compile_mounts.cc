#include <linux/sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>

#include "native/compile_parts.h"

namespace crisp::native {

namespace {

struct AttributeOption {
  std::string_view name;
  uint64_t set, clear;
};
// runtime-spec config.md#linux-mount-options. Each also with an "r" before it: for everything below, too.
constexpr std::array kAttributes = std::to_array<AttributeOption>({
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", 0, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
});

struct FlagOption {
  std::string_view name;
  uint64_t set, clear;
};
constexpr std::array kSuperblock = std::to_array<FlagOption>({
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"silent", MS_SILENT, 0},
    {"loud", 0, MS_SILENT},
    {"defaults", 0, 0},
    // i_version is the file systems' own business since Linux 6.2, and nothing that users see.
    {"iversion", 0, 0},
    {"noiversion", 0, 0},
});

struct PropagationOption {
  std::string_view name;
  uint64_t flag;
};
constexpr std::array kPropagation = std::to_array<PropagationOption>(
    {{"private", MS_PRIVATE}, {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"unbindable", MS_UNBINDABLE}});

struct Options {
  Mount mount;
  bool bind = false, remount = false;
  uint64_t cleared = 0;  // by options that switch something off
};

// atime's three bits are one value, which is replaced.
void Apply(const AttributeOption& option, uint64_t& set, uint64_t& clear, uint64_t* cleared) {
  set = (set & ~option.clear) | option.set;
  if (option.clear == MOUNT_ATTR__ATIME) clear |= MOUNT_ATTR__ATIME;
  if (cleared != nullptr && option.set == 0) *cleared |= option.clear;
  if (cleared == nullptr && option.set == 0) clear |= option.clear;
}

bool TakeAttribute(std::string_view name, Options& out) {
  for (const AttributeOption& option : kAttributes) {
    if (name == option.name) {
      Apply(option, out.mount.attr_set, out.mount.attr_clear, &out.cleared);
      return true;
    }
    if (name.size() == option.name.size() + 1 && name[0] == 'r' && name.substr(1) == option.name) {
      Apply(option, out.mount.recursive_set, out.mount.recursive_clear, nullptr);
      return true;
    }
  }
  return false;
}

bool TakePropagation(std::string_view name, Options& out) {
  for (const PropagationOption& option : kPropagation) {
    bool recursive = name.starts_with('r') && name.substr(1) == option.name;
    if (name != option.name && !recursive) continue;
    out.mount.propagation = option.flag;
    out.mount.recursive_propagation = recursive;
    return true;
  }
  return false;
}

bool TakeSpecial(std::string_view name, Options& out) {
  if (name == "bind" || name == "rbind") {
    out.bind = true;
    out.mount.recursive = out.mount.recursive || name == "rbind";
  } else if (name == "remount") {
    out.remount = true;
  } else if (name == "tmpcopyup") {
    out.mount.copy_up = true;
  } else if (name == "idmap" || name == "ridmap") {
    out.mount.idmap = true;
    out.mount.idmap_recursive = out.mount.idmap_recursive || name == "ridmap";
  } else if (name == "src-nofollow") {
    out.mount.source_nofollow = true;
  } else if (name == "src-plain") {
    out.mount.source_plain = true;
  } else {
    return false;
  }
  return true;
}

bool TakeSuperblock(std::string_view name, Options& out) {
  for (const FlagOption& option : kSuperblock) {
    if (name != option.name) continue;
    out.mount.sb_flags = (out.mount.sb_flags & ~option.clear) | option.set;
    return true;
  }
  return false;
}

// "a" → "a,b".
void AppendOption(std::string& data, std::string_view option) { data += StrCat(data.empty() ? "" : ",", option); }

Options ReadOptions(const std::vector<std::string>& options) {
  Options out;
  for (const std::string& option : options) {
    if (option.empty() || TakeAttribute(option, out) || TakePropagation(option, out) || TakeSpecial(option, out) ||
        TakeSuperblock(option, out)) {
      continue;
    }
    AppendOption(out.mount.data, option);
  }
  return out;
}

// File systems without a device below them: what is read-only is their mount. A superblock of theirs may be shared with
// others, who would not expect it to be.
bool IsOfTheKernel(std::string_view type) {
  constexpr std::array<std::string_view, 17> kTypes = {
      "proc",    "sysfs",      "tmpfs",    "ramfs",       "devpts",    "mqueue",  "devtmpfs", "bpf",   "debugfs",
      "tracefs", "securityfs", "configfs", "binfmt_misc", "hugetlbfs", "overlay", "efivarfs", "pstore"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

// Those whose labels come from the kernel or the policy. A mqueue's superblock is its namespace's, with the options of
// whoever came first.
bool TakesLabel(std::string_view type) { return type != "proc" && type != "sysfs" && type != "mqueue"; }

Result<> MapIds(const Node& node, const Launch& launch, Mount& mount) {
  mount.uid_map = TRY(CompileIdMappings(node, "uidMappings"));
  mount.gid_map = TRY(CompileIdMappings(node, "gidMappings"));
  if (mount.uid_map.empty() != mount.gid_map.empty()) return node.Wrong("uidMappings and gidMappings belong together");
  if (!mount.uid_map.empty()) mount.idmap = true;
  if (mount.idmap && mount.uid_map.empty() && !HasNamespace(launch, CLONE_NEWUSER)) {
    return node.Wrong("idmap needs uidMappings and gidMappings, or a user namespace");
  }
  return {};
}

// ---- cgroups ----

// "cpu,cpuacct" and "name=systemd" as the names of directories.
std::string HierarchyName(const std::string& controllers) {
  constexpr std::string_view kNamed = "name=";
  return controllers.starts_with(kNamed) ? controllers.substr(kNamed.size()) : controllers;
}

void MountHierarchies(const CompileInput& input, bool own_namespace, const Mount& options, Launch& out) {
  Mount top = options;
  top.kind = Mount::kFilesystem;
  top.fstype = top.source = "tmpfs";
  top.data = "mode=755";
  top.read_only_at_end = (options.attr_set & MOUNT_ATTR_RDONLY) != 0;
  out.mounts.push_back(top);
  for (const Host::Hierarchy& hierarchy : input.host.hierarchies) {
    if (hierarchy.controllers.empty()) continue;  // v2 beside v1: nothing of it is the container's
    Mount mount = options;
    std::string name = HierarchyName(hierarchy.controllers);
    mount.target = StrCat(options.target, "/", name);
    if (own_namespace) {
      mount.kind = Mount::kFilesystem;
      mount.fstype = mount.source = "cgroup";
      mount.data = name == hierarchy.controllers ? hierarchy.controllers : "none," + hierarchy.controllers;
    } else {
      auto own = std::find_if(input.cgroup.v1_dirs.begin(), input.cgroup.v1_dirs.end(),
                              [&](const std::string& dir) { return dir.starts_with(hierarchy.mount_point + "/"); });
      if (own == input.cgroup.v1_dirs.end()) continue;
      mount.kind = Mount::kBind;
      mount.source = *own;
      mount.fstype = mount.data = "";
    }
    out.mounts.push_back(mount);
    if (name.find(',') == std::string::npos) continue;
    for (std::string_view part : Split(name, ',')) out.symlinks.push_back({StrCat(options.target, "/", part), name});
  }
}

// What /proc/self/cgroup says inside has to be found below the mount. Without a cgroup namespace that is a path of the
// node's: the node's whole tree. As a bind: a new mount from the first cgroup namespace would put the options of the
// node's mount (nsdelegate, memory_recursiveprot) to what it does not name (kernel/cgroup/cgroup.c, cgroup_get_tree).
// In a user namespace there is no more to see than the container's own.
void MountUnified(const CompileInput& input, bool own_namespace, const Mount& options, Launch& out) {
  Mount mount = options;
  mount.data = "";
  mount.kind = Mount::kBind;
  for (const Host::Hierarchy& hierarchy : input.host.hierarchies) {
    if (hierarchy.controllers.empty()) mount.source = hierarchy.mount_point;
  }
  if (HasNamespace(out, CLONE_NEWUSER) && !input.cgroup.v2_dir.empty()) mount.source = input.cgroup.v2_dir;
  if (own_namespace) {
    mount.kind = Mount::kFilesystem;
    mount.fstype = mount.source = "cgroup2";
  }
  out.mounts.push_back(std::move(mount));
}

Result<> MountCgroups(const Node& node, const CompileInput& input, Mount options, Launch& out) {
  if (options.idmap) return node.Unsupported("mapped ids of cgroups");
  // Nothing in there is a program or a device (runc's defaults, too).
  options.attr_set |= MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  bool own_namespace = HasNamespace(out, CLONE_NEWCGROUP);
  if (input.host.unified) {
    MountUnified(input, own_namespace, options, out);
  } else {
    MountHierarchies(input, own_namespace, options, out);
  }
  if (out.mounts.back().source.empty()) return node.Wrong("where the node's cgroups are is not known");
  return {};
}

// What a mount of the container's own becomes.
Result<> Finish(const Node& node, const std::string& label, Mount& mount) {
  if (mount.fstype.empty()) return node.Wrong("no type");
  if (mount.idmap) return node.Unsupported("mapped ids of a new file system");
  const bool read_only = (mount.attr_set & MOUNT_ATTR_RDONLY) != 0;
  // Links, devices and mount points are still to be made in there.
  mount.read_only_at_end = read_only && (mount.fstype == "tmpfs" || CleanPath(mount.target) == "/dev");
  if (read_only && !IsOfTheKernel(mount.fstype)) AppendOption(mount.data, "ro");
  if (!label.empty() && TakesLabel(mount.fstype) && mount.data.find("context=") == std::string::npos) {
    AppendOption(mount.data, StrCat("context=\"", label, "\""));
  }
  return {};
}

Result<> CompileMount(const Node& node, const CompileInput& input, const std::string& label, Launch& out) {
  Options options = ReadOptions(TRY(node.Get<std::vector<std::string>>("options")));
  Mount& mount = options.mount;
  mount.target = TRY(node.Get<std::string>("destination"));
  if (mount.target.empty()) return node.Wrong("no destination");
  if (!mount.target.starts_with('/')) mount.target.insert(0, "/");  // deprecated, but to be read like this (config.md)
  if (CleanPath(mount.target) == "/") return node.Wrong("destination is the root itself");
  mount.source = TRY(node.Get<std::string>("source"));
  std::string type = TRY(node.Get<std::string>("type"));
  TRY(MapIds(node, out, mount));
  if (mount.copy_up && type != "tmpfs") return node.Wrong("tmpcopyup is for tmpfs");
  const bool bind = options.bind || type == "bind";
  if (!bind && !options.remount && (type == "cgroup" || (type == "cgroup2" && input.host.unified))) {
    return MountCgroups(node, input, std::move(mount), out);
  }
  if (options.remount || bind) {
    // It has attributes already: those that the options switch off go, all else stays.
    mount.attr_clear |= options.cleared;
    if (!mount.data.empty())
      return node.Wrong(StrCat("options ", Quote(mount.data), " are those of a new file system"));
  }
  if (options.remount) {
    mount.kind = Mount::kRemount;
    if (mount.idmap) return node.Unsupported("mapped ids of a mount that is there already");
  } else if (bind) {
    mount.kind = Mount::kBind;
    if (mount.source.empty()) return node.Wrong("a bind mount without source");
    if (!mount.source.starts_with('/')) mount.source = StrCat(input.bundle, "/", mount.source);
  } else {
    mount.kind = Mount::kFilesystem;
    mount.fstype = type;
    TRY(Finish(node, label, mount));
  }
  out.mounts.push_back(std::move(mount));
  return {};
}

}  // namespace

Result<> CompileMounts(const Node& config, const CompileInput& input, Launch& out) {
  Node linux_node = TRY(config.Member("linux"));
  std::string label = TRY(linux_node.Get<std::string>("mountLabel"));
  for (const Node& node : TRY(config.Items("mounts"))) TRY(CompileMount(node, input, label, out));
  return {};
}

std::vector<std::string> MountOptions() {
  std::vector<std::string> names = {"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "src-nofollow", "src-plain"};
  for (const AttributeOption& option : kAttributes) {
    names.emplace_back(option.name);
    names.push_back(StrCat("r", option.name));
  }
  for (const FlagOption& option : kSuperblock) names.emplace_back(option.name);
  for (const PropagationOption& option : kPropagation) {
    names.emplace_back(option.name);
    names.push_back(StrCat("r", option.name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace crisp::native
