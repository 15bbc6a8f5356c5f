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
    {"sync", MS_SYNCHRONOUS, 0}, {"async", 0, MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC, 0}, {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK}, {"lazytime", MS_LAZYTIME, 0}, {"nolazytime", 0, MS_LAZYTIME}, {"silent", 0, 0},
    {"loud", 0, 0}, {"iversion", 0, 0}, {"noiversion", 0, 0}, {"defaults", 0, 0}, {"norro", 0, 0},
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
    out.mount.recursive = name == "rbind";
  } else if (name == "remount") {
    out.remount = true;
  } else if (name == "tmpcopyup") {
    out.mount.copy_up = true;
  } else if (name == "idmap" || name == "ridmap") {
    out.mount.idmap = true;
    out.mount.idmap_recursive = name == "ridmap";
  } else if (name == "src-nofollow") {
    out.mount.source_nofollow = true;
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

Options ReadOptions(const std::vector<std::string>& options) {
  Options out;
  for (const std::string& option : options) {
    if (option.empty() || TakeAttribute(option, out) || TakePropagation(option, out) || TakeSpecial(option, out) ||
        TakeSuperblock(option, out)) {
      continue;
    }
    out.mount.data += StrCat(out.mount.data.empty() ? "" : ",", option);
  }
  return out;
}

Result<> MapIds(const Node& node, Mount& mount) {
  mount.uid_map = TRY(CompileIdMappings(TRY(node.Member("uidMappings"))));
  mount.gid_map = TRY(CompileIdMappings(TRY(node.Member("gidMappings"))));
  if (mount.uid_map.empty() != mount.gid_map.empty()) return node.Wrong("uidMappings and gidMappings belong together");
  if (!mount.uid_map.empty()) mount.idmap = true;
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
      auto own = std::find_if(input.cgroup.v1_dirs.begin(), input.cgroup.v1_dirs.end(), [&](const std::string& dir) {
        return dir.starts_with(hierarchy.mount_point + "/");
      });
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

void MountCgroups(const CompileInput& input, const Mount& options, Launch& out) {
  bool own_namespace = (out.new_namespaces & CLONE_NEWCGROUP) != 0;
  for (const JoinNamespace& join : out.join) own_namespace = own_namespace || join.type == CLONE_NEWCGROUP;
  if (!input.host.unified) return MountHierarchies(input, own_namespace, options, out);
  Mount mount = options;
  mount.data = "";
  if (own_namespace || input.cgroup.v2_dir.empty()) {
    mount.kind = Mount::kFilesystem;
    mount.fstype = mount.source = "cgroup2";
  } else {
    mount.kind = Mount::kBind;
    mount.source = input.cgroup.v2_dir;
  }
  out.mounts.push_back(mount);
}

Result<> CompileMount(const Node& node, const CompileInput& input, const std::string& label, Launch& out) {
  Options options = ReadOptions(TRY(node.Get<std::vector<std::string>>("options")));
  Mount& mount = options.mount;
  mount.target = TRY(node.Get<std::string>("destination"));
  if (mount.target.empty()) return node.Wrong("no destination");
  if (!mount.target.starts_with('/')) mount.target.insert(0, "/");  // runc's leniency, of spec versions before 1.0
  mount.source = TRY(node.Get<std::string>("source"));
  std::string type = TRY(node.Get<std::string>("type"));
  TRY(MapIds(node, mount));
  if (type == "cgroup" || type == "cgroup2") {
    MountCgroups(input, mount, out);
    return {};
  }
  if (options.remount && !options.bind) {
    mount.kind = Mount::kRemount;
    mount.attr_clear |= options.cleared;
  } else if (options.bind || type == "bind") {
    mount.kind = Mount::kBind;
    mount.data = "";
    if (mount.source.empty()) return node.Wrong("a bind mount without source");
    if (!mount.source.starts_with('/')) mount.source = StrCat(input.bundle, "/", mount.source);
  } else {
    mount.kind = Mount::kFilesystem;
    mount.fstype = type;
    if (type.empty()) return node.Wrong("no type");
    if (mount.idmap) return node.Unsupported("mapped ids of a new file system");
    mount.read_only_at_end = type == "tmpfs" && (mount.attr_set & MOUNT_ATTR_RDONLY) != 0;
    if (!label.empty() && (type == "tmpfs" || type == "devpts" || type == "mqueue" || type == "ramfs")) {
      mount.data += StrCat(mount.data.empty() ? "" : ",", "context=\"", label, "\"");
    }
  }
  if (mount.copy_up && mount.fstype != "tmpfs") return node.Wrong("tmpcopyup is for tmpfs");
  out.mounts.push_back(std::move(mount));
  return {};
}

}  // namespace

Result<> CompileMounts(const Node& config, const CompileInput& input, Launch& out) {
  std::string label = TRY(TRY(config.Member("linux")).Get<std::string>("mountLabel"));
  for (const Node& node : TRY(TRY(config.Member("mounts")).Items())) TRY(CompileMount(node, input, label, out));
  return {};
}

std::vector<std::string> MountOptions() {
  std::vector<std::string> names = {"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "src-nofollow"};
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
