// What is mounted where: the kernel's file systems, the pod's files, the request's mounts and the image's volumes.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/strings.h"
#include "spec/parts.h"
#include "spec/userns.h"

namespace crisp::spec {

namespace {

using Options = std::vector<std::string>;

constexpr uint32_t kTtyGroup = 5;

Json OciMount(std::string_view destination, std::string_view type, std::string_view source, const Options& options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", options}};
}

std::string Destination(const Json& mount) { return mount["destination"].get<std::string>(); }

// A parent before its children; otherwise in the order given (a later mount on the same place hides the earlier).
void SortByDepth(std::vector<Json>& mounts) {
  auto depth = [](const Json& mount) {
    std::string path = Destination(mount);
    return std::count(path.begin(), path.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(), [&](const Json& a, const Json& b) { return depth(a) < depth(b); });
}

// /sys shows the devices of a network namespace, so the kernel lets only the owner of that mount it anew. With the node's
// network in a user namespace it is the node's own, and with it what is mounted there (a part of a tree of mounts cannot be
// taken apart from another user namespace).
Json SysMount(const Planning& p, const std::string& access) {
  bool nodes = p.userns() && p.in.sandbox.security.namespaces.network == NamespaceMode::kNode;
  if (!nodes) return OciMount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access});
  return OciMount("/sys", "bind", "/sys",
                  {"rbind", "rprivate", "nosuid", "noexec", "nodev", p.in.handler_recursive_readonly ? "rro" : "ro"});
}

// A privileged container may administrate the node; all others see the kernel's file systems read-only
// (CVE-2023-25809).
std::vector<Json> KernelMounts(const Planning& p) {
  std::string access = p.privileged() ? "rw" : "ro";
  Options terminals = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (HasGroup(p.in.sandbox.security.namespaces, kTtyGroup)) terminals.push_back(StrCat("gid=", kTtyGroup));
  return {
      OciMount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
      OciMount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      OciMount("/dev/pts", "devpts", "devpts", std::move(terminals)),
      OciMount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      SysMount(p, access),
      OciMount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", access}),
  };
}

std::vector<Json> PodFileMounts(const Planning& p) {
  std::string access = p.security().readonly_rootfs ? "ro" : "rw";
  std::vector<Json> mounts;
  auto add = [&](const char* destination, const std::string& source, const Options& options) {
    if (source.empty()) return;
    mounts.push_back(OciMount(destination, "bind", source, options));
    // Made read-only in a user namespace, a mount must keep what its source's mount has, and /run usually has these.
    if (p.userns() && access == "ro" && destination != std::string_view("/dev/shm")) {
      for (const char* flag : {"nosuid", "noexec", "nodev"}) mounts.back()["options"].push_back(flag);
    }
  };
  add("/etc/hostname", p.in.files.hostname, {"rbind", "rprivate", access});
  add("/etc/hosts", p.in.files.hosts, {"rbind", "rprivate", access});
  add("/etc/resolv.conf", p.in.files.resolv_conf, {"rbind", "rprivate", access});
  bool host_ipc = p.in.sandbox.security.namespaces.ipc == NamespaceMode::kNode;
  add("/dev/shm", host_ipc ? "/dev/shm" : p.in.files.shm_dir, {"rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"});
  return mounts;
}

bool SourceIsShared(const MountSource& source) {
  return source.propagation == SourcePropagation::kShared || source.propagation == SourcePropagation::kSharedSlave;
}

// Fills the propagation option of `mount` and raises the root's to what it needs.
Result<> Propagate(const Mount& mount, const MountSource* source, Options& options, std::string& root_propagation) {
  std::string where = StrCat("path ", Quote(mount.host_path), " is mounted on ",
                             Quote(source != nullptr ? source->mount_point : std::string("?")), " but it is not a ");
  switch (mount.propagation) {
    case Propagation::kPrivate: options.push_back("rprivate"); return {};
    case Propagation::kHostToContainer:
      if (source != nullptr && source->propagation == SourcePropagation::kPrivate) {
        return NotHere(StrCat(where, "shared or slave mount"));
      }
      options.push_back("rslave");
      if (root_propagation.empty()) root_propagation = "rslave";
      return {};
    case Propagation::kBidirectional:
      if (source != nullptr && !SourceIsShared(*source)) return NotHere(StrCat(where, "shared mount"));
      options.push_back("rshared");
      root_propagation = "rshared";
      return {};
  }
  return Invalid("unknown mount propagation");
}

// CRI, Mount.recursive_read_only: "Requires … readonly … and propagation … PRIVATE", and the handler's support.
Result<std::string> Access(const Planning& p, const Mount& mount) {
  if (!mount.recursive_readonly) return std::string(mount.readonly ? "ro" : "rw");
  std::string where = StrCat("mount ", Quote(mount.container_path), ": recursive read-only ");
  if (!mount.readonly) return Invalid(where + "needs a read-only mount");
  if (mount.propagation != Propagation::kPrivate) return Invalid(where + "needs private propagation");
  // The kubelet knows this error by its first word (cri-api, pkg/errors).
  if (!p.in.handler_recursive_readonly) {
    return NotHere(StrCat("RROUnsupported: ", where, "is not supported by this runtime handler"));
  }
  return std::string("rro");
}

// CRI, Mount.mount_options (KEP-5855). Flags of a single mount that take rights away or change nothing but access
// times: anything else ("dev", "suid", "rw") would undo what is decided elsewhere, or be data for a file system.
Result<> AddExtraOptions(const Mount& mount, Options& options) {
  static constexpr std::array<std::string_view, 8> kKnown = {"ro",      "nosuid",   "nodev",      "noexec",
                                                             "noatime", "relatime", "nodiratime", "strictatime"};
  for (const std::string& option : mount.mount_options) {
    if (std::find(kKnown.begin(), kKnown.end(), option) == kKnown.end()) {
      return Invalid(StrCat("mount ", Quote(mount.container_path), ": mount_options: ", Quote(option), " is none of ",
                            Join(std::vector<std::string>(kKnown.begin(), kKnown.end()), ", ")));
    }
    if (std::find(options.begin(), options.end(), option) != options.end()) continue;
    if (option == "ro") std::erase(options, "rw");
    options.push_back(option);
  }
  return {};
}

Result<Json> RequestedMount(const Planning& p, size_t index, std::string& root_propagation) {
  const Mount& mount = p.in.config.mounts[index];
  const MountSource* source = p.in.mount_sources.empty() ? nullptr : &p.in.mount_sources[index];
  std::string destination = TRY(CleanPath(mount.container_path, "mount: container path"));
  if (destination == "/") return Invalid("mount: container path \"/\" would hide the image");
  TRY(CheckIdMappings(StrCat("mount ", Quote(destination), ": uidMappings"), mount.uid_mappings));
  TRY(CheckIdMappings(StrCat("mount ", Quote(destination), ": gidMappings"), mount.gid_mappings));
  bool mapped = !mount.uid_mappings.empty() || !mount.gid_mappings.empty();
  if (mapped && mount.propagation == Propagation::kBidirectional) {
    return Invalid(StrCat("mount ", Quote(destination), ": mapped ids cannot be given back to the node"));
  }
  if (p.userns() && mount.propagation == Propagation::kBidirectional) {
    return Invalid(
        StrCat("mount ", Quote(destination), ": bidirectional propagation is not for pods with a user namespace"));
  }
  if (!mount.image.empty() && !mount.readonly) {
    // "All OCI mounts are per feature definition readonly": said otherwise, something was misunderstood.
    return Invalid(StrCat("mount ", Quote(destination), ": an image volume must be readonly"));
  }
  bool staged = source != nullptr && source->staged;
  if ((mapped || !mount.image.empty()) && !staged) {
    return NotHere(StrCat("mount ", Quote(destination), ": was not prepared"));
  }
  std::string host;
  if (source != nullptr && !source->path.empty()) {
    host = source->path;
  } else {
    host = TRY(CleanPath(mount.host_path, StrCat("mount ", Quote(destination), ": host path")));
  }
  Options options = {"rbind"};
  TRY(Propagate(mount, source, options, root_propagation));
  options.push_back(TRY(Access(p, mount)));
  // As rootfs::StageImageVolume has mounted it. In a user namespace these flags are locked: a remount must name them.
  if (!mount.image.empty()) options.insert(options.end(), {"nosuid", "nodev"});
  TRY(AddExtraOptions(mount, options));
  if (p.in.handler_native && source != nullptr && !staged && host == source->real_path) options.push_back("src-plain");
  return OciMount(destination, "bind", host, options);
}

bool Covered(const std::vector<Json>& mounts, const std::string& destination) {
  return std::any_of(mounts.begin(), mounts.end(), [&](const Json& m) { return Destination(m) == destination; });
}

// The request's mount at a place or above it takes ours away: whoever mounts the node's /dev wants that one.
bool Hidden(const std::vector<Json>& requested, const std::string& destination) {
  return std::any_of(requested.begin(), requested.end(),
                     [&](const Json& m) { return IsWithin(destination, Destination(m)); });
}

// A VOLUME is the image's word. In the place of the kernel's file systems it would take away what shields them: that
// /sys and its cgroups are read-only, and the real /proc, which OCI runtimes write labels and limits to.
bool OnKernelFiles(const std::string& destination) {
  constexpr std::array<std::string_view, 3> kDirs = {"/proc", "/sys", "/dev"};
  return std::any_of(kDirs.begin(), kDirs.end(), [&](std::string_view dir) { return IsWithin(destination, dir); });
}

Result<> AddVolumes(const Planning& p, std::vector<Json>& requested) {
  for (const VolumeMount& volume : p.in.volumes) {
    std::string destination = TRY(CleanPath(volume.container_path, "image volume"));
    if (destination == "/" || Covered(requested, destination)) continue;
    if (OnKernelFiles(destination)) {
      p.Warn(StrCat("the image's volume ", Quote(destination), " would hide the kernel's files, ignoring"));
      continue;
    }
    requested.push_back(OciMount(destination, "bind", volume.host_dir, {"rbind", "rprivate", "rw"}));
  }
  return {};
}

}  // namespace

Result<MountsPlan> PlanMounts(const Planning& p) {
  CHECK(p.in.mount_sources.empty() || p.in.mount_sources.size() == p.in.config.mounts.size());
  MountsPlan plan;
  std::vector<Json> requested;
  for (size_t i = 0; i < p.in.config.mounts.size(); ++i) {
    requested.push_back(TRY(RequestedMount(p, i, plan.root_propagation)));
  }
  TRY(AddVolumes(p, requested));
  std::vector<Json> later;  // those that come after the kernel's file systems
  for (Json& mount : PodFileMounts(p)) {
    // A request for all of /etc keeps the pod's files on top of it; one for all of /dev brings its own shm.
    std::string destination = Destination(mount);
    bool taken = destination == "/dev/shm" ? Hidden(requested, destination) : Covered(requested, destination);
    if (!taken) later.push_back(std::move(mount));
  }
  for (Json& mount : KernelMounts(p)) {
    if (!Hidden(requested, Destination(mount))) plan.mounts.push_back(std::move(mount));
  }
  later.insert(later.end(), requested.begin(), requested.end());
  SortByDepth(later);
  for (Json& mount : later) plan.mounts.push_back(std::move(mount));
  return plan;
}

}  // namespace crisp::spec
