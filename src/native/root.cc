#include "native/root.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/strings.h"
#include "native/copy_up.h"
#include "native/placement.h"
#include "native/status.h"
#include "sys/file.h"
#include "sys/fs_context.h"
#include "sys/mountinfo.h"

namespace crisp::native {

namespace {

constexpr uint64_t kPropagations = MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE;

Result<sys::UniqueFd> OpenInside(sys::BorrowedFd root, const std::string& path, int flags, uint64_t more = 0, mode_t mode = 0) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | more;
  long fd;
  do {
    fd = syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how);
  } while (fd < 0 && (errno == EINTR || errno == EAGAIN));  // EAGAIN: a rename raced with ".."
  if (fd < 0) return Errno(errno, "open " + path);
  return sys::UniqueFd(static_cast<int>(fd));
}

struct Split {
  std::string parent, name;
};
// "/a/b" → "/a", "b". Without "." and ".." at its end.
Result<Split> SplitPath(const std::string& path) {
  size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return Error(Code::kInvalidArgument, StrCat("path ", Quote(path)));
  size_t slash = path.rfind('/', end);
  Split split{slash == std::string::npos ? "/" : path.substr(0, slash + 1), path.substr(slash == std::string::npos ? 0 : slash + 1, end - (slash == std::string::npos ? 0 : slash + 1) + 1)};
  if (split.name == "." || split.name == "..") return Error(Code::kInvalidArgument, StrCat("path ", Quote(path)));
  return split;
}

// The directory inside, made where it is missing: one component after the other, so that an image's symlinks count, also
// those that lead to what is not there yet.
Result<sys::UniqueFd> DirInside(sys::BorrowedFd root, const std::string& path, uint64_t more = 0, int links = 0) {
  Result<sys::UniqueFd> there = OpenInside(root, path, O_PATH | O_DIRECTORY, more);
  if (there || there.error().os_errno() != ENOENT) return there;
  Split split = TRY(SplitPath(path));
  sys::UniqueFd parent = TRY(DirInside(root, split.parent, more, links));
  if (mkdirat(parent.get(), split.name.c_str(), 0755) == 0) return OpenInside(root, path, O_PATH | O_DIRECTORY, more);
  if (errno != EEXIST) return Errno(errno, "make directory " + path);
  char target[4096];
  ssize_t n = readlinkat(parent.get(), split.name.c_str(), target, sizeof target);
  constexpr int kLinksMax = 40;
  if (n <= 0 || n == static_cast<ssize_t>(sizeof target) || (more & RESOLVE_NO_SYMLINKS) != 0 || links >= kLinksMax) {
    return OpenInside(root, path, O_PATH | O_DIRECTORY, more);
  }
  std::string leads(target, static_cast<size_t>(n));
  return DirInside(root, leads.starts_with('/') ? leads : split.parent + leads, more, links + 1);
}

Result<struct stat> Stat(sys::BorrowedFd fd, const std::string& path) {
  struct stat st{};
  if (fstat(fd.get(), &st) != 0) return Errno(errno, "stat " + path);
  return st;
}

Result<sys::UniqueFd> CloneTree(int dir, const std::string& path, unsigned flags) {
  int fd = open_tree(dir, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
  if (fd < 0) return Errno(errno, "open " + (path.empty() ? std::string("a mount") : path));
  return sys::UniqueFd(fd);
}

Result<> SetAttributes(sys::BorrowedFd mount, uint64_t set, uint64_t clear, bool recursive, uint64_t propagation = 0) {
  if (set == 0 && clear == 0 && propagation == 0) return {};
  mount_attr attr{};
  attr.attr_set = set;
  attr.attr_clr = clear;
  attr.propagation = propagation;
  if (mount_setattr(mount.get(), "", static_cast<unsigned>(AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0)), &attr, sizeof attr) == 0) {
    return {};
  }
  return Errno(errno, "mount_setattr");
}

// Of a file of the node: no peer of the node's mount, which may be shared, so nothing that is mounted on it gets there.
Result<sys::UniqueFd> ClonePrivate(sys::BorrowedFd file) {
  sys::UniqueFd tree = TRY(CloneTree(file.get(), "", AT_EMPTY_PATH));
  TRY(SetAttributes(tree, 0, 0, false, MS_PRIVATE));
  return tree;
}

// What a bind mount is to be, before it is attached. A source that was opened among the node's mounts is a peer of
// theirs until it is private.
// `flows_in`: the container's root gets mounts from the node, so what is below a mount may, too, unless it says
// otherwise.
Result<> Change(sys::BorrowedFd detached, const Mount& mount, bool flows_in) {
  const uint64_t asked = mount.propagation & kPropagations;
  const uint64_t propagation = asked == 0 || asked == MS_PRIVATE ? MS_PRIVATE : 0;
  if (mount.recursive) {
    const bool alone = flows_in && asked == MS_PRIVATE && !mount.recursive_propagation;
    TRY(SetAttributes(detached, mount.attr_set, mount.attr_clear, false, alone ? propagation : 0));
    return SetAttributes(detached, mount.recursive_set, mount.recursive_clear, true, alone ? 0 : propagation);
  }
  // A mount alone: in one call what would be one after the other.
  const uint64_t set = (mount.attr_set & ~mount.recursive_clear) | mount.recursive_set;
  return SetAttributes(detached, set, mount.attr_clear | mount.recursive_clear, false, propagation);
}

Result<> MapIds(sys::BorrowedFd detached, const Mount& mount, sys::BorrowedFd container_userns) {
  sys::UniqueFd own;
  int userns = container_userns.get();
  if (!mount.uid_map.empty() || !mount.gid_map.empty()) {
    own = TRY(MakeUserNamespace(mount.uid_map, mount.gid_map));
    userns = own.get();
  }
  if (userns < 0) return Error(Code::kInvalidArgument, "mapped ids without maps and without a user namespace");
  mount_attr attr{};
  attr.attr_set = MOUNT_ATTR_IDMAP;
  attr.userns_fd = static_cast<uint64_t>(userns);
  unsigned flags = static_cast<unsigned>(AT_EMPTY_PATH | (mount.idmap_recursive ? AT_RECURSIVE : 0));
  if (mount_setattr(detached.get(), "", flags, &attr, sizeof attr) == 0) return {};
  return Errno(errno, "map the ids of " + mount.source);
}

Result<sys::UniqueFd> OpenSource(const Mount& mount, sys::BorrowedFd userns) {
  unsigned flags = (mount.recursive ? AT_RECURSIVE : 0u) | (mount.source_nofollow ? AT_SYMLINK_NOFOLLOW : 0u);
  sys::UniqueFd fd;
  if (mount.source_plain) {
    // A symlink that is there now was not there when the path was resolved.
    open_how how{.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_NO_SYMLINKS};
    fd.Reset(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, mount.source.c_str(), &how, sizeof how)));
    if (fd.get() < 0) return Errno(errno, "open " + mount.source);
    fd = TRY(CloneTree(fd.get(), "", flags | AT_EMPTY_PATH));
  } else {
    fd = TRY(CloneTree(AT_FDCWD, mount.source, flags));
  }
  if (mount.idmap) TRY(MapIds(fd, mount, userns));
  return fd;
}

// "size=64k,context=\"a,b\"": commas within quotes do not part.
std::vector<std::string> SplitOptions(const std::string& data) {
  std::vector<std::string> options(1);
  bool quoted = false;
  for (char c : data) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      options.emplace_back();
    } else {
      options.back() += c;
    }
  }
  std::erase(options, std::string());
  return options;
}

// `covered`: the directory that it is to lie on; not ok(): it is yet to be made.
Result<sys::UniqueFd> NewFilesystem(const Mount& mount, sys::BorrowedFd covered) {
  sys::FsContext context = TRY(sys::FsContext::Open(mount.fstype));
  if (!mount.source.empty()) TRY(context.SetString("source", mount.source));
  std::vector<std::string> options = SplitOptions(mount.data);
  bool has_mode = std::any_of(options.begin(), options.end(), [](const std::string& o) { return o.starts_with("mode="); });
  struct stat st{};
  if (mount.fstype == "tmpfs" && !has_mode && covered.get() >= 0 && fstat(covered.get(), &st) == 0) {
    // As the image has it: its /tmp may be everybody's, its /run root's (as runc does).
    char mode[16];
    snprintf(mode, sizeof mode, "mode=%o", static_cast<unsigned>(st.st_mode & 07777));
    options.emplace_back(mode);
  }
  for (const std::string& option : options) {
    size_t equals = option.find('=');
    if (equals == std::string::npos) {
      TRY(context.SetFlag(option));
    } else {
      TRY(context.SetString(option.substr(0, equals), option.substr(equals + 1)));
    }
  }
  constexpr struct {
    uint64_t flag;
    const char* name;
  } kFlags[] = {{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_LAZYTIME, "lazytime"}, {MS_MANDLOCK, "mand"}};
  for (const auto& each : kFlags) {
    if ((mount.sb_flags & each.flag) != 0) TRY(context.SetFlag(each.name));
  }
  return context.Mount(static_cast<unsigned>(mount.read_only_at_end ? mount.attr_set & ~uint64_t{MOUNT_ATTR_RDONLY} : mount.attr_set));
}

bool IsMountRoot(sys::BorrowedFd fd) {
  struct statx stx{};
  return statx(fd.get(), "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stx) == 0 &&
         (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

namespace {

// The node's, checked.
Result<sys::UniqueFd> CloneNull() {
  sys::UniqueFd null = TRY(sys::Open("/dev/null", O_PATH | O_NOFOLLOW));
  struct stat st = TRY(Stat(null, "/dev/null"));
  if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
    return Error(Code::kInternal, "the node's /dev/null is none");
  }
  return ClonePrivate(null);
}

bool MayMakeDevices() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1u << CAP_MKNOD)) != 0;
}

Result<> OpenForBare(const Launch& launch, Sources& sources) {
  sources.for_bare = true;
  Result<sys::UniqueFd> bare = sys::Open(launch.bare_mounts, O_RDONLY | O_NONBLOCK);
  if (!bare) return {};
  sources.bare = *std::move(bare);
  sources.rootfs = TRY(CloneTree(AT_FDCWD, launch.rootfs, AT_RECURSIVE));
  TRY(SetAttributes(sources.rootfs, 0, 0, true, MS_PRIVATE));
  if (!launch.masked_paths.empty()) sources.null = TRY(CloneNull());
  if (launch.devices.empty() || MayMakeDevices()) return {};
  sources.node_mounts = TRY(sys::Open("/proc/self/ns/mnt", O_RDONLY));
  sources.node_proc = TRY(sys::Open("/proc", O_PATH | O_DIRECTORY));
  return {};
}

}  // namespace

Result<Sources> OpenSources(const Launch& launch, sys::BorrowedFd userns, WhichSources which) {
  Sources sources;
  // The root first: /proc/PID/mountinfo goes by age.
  if (which == WhichSources::kForBareMounts) TRY(OpenForBare(launch, sources));
  sources.mounts.resize(launch.mounts.size());
  for (size_t i = 0; i < sources.mounts.size(); ++i) {
    const Mount& mount = launch.mounts[i];
    if (mount.kind != Mount::kBind || (which == WhichSources::kNecessary && !mount.idmap)) continue;
    Result<sys::UniqueFd> source = OpenSource(mount, userns);
    if (!source && mount.optional) continue;
    sources.mounts[i] = TRY(std::move(source), StrCat("mount ", mount.source, " at ", Quote(mount.target)));
  }
  return sources;
}

Result<> Root::SetPropagation() {
  uint64_t flags = launch_.rootfs_propagation != 0 ? launch_.rootfs_propagation : MS_PRIVATE | MS_REC;
  if (mount(nullptr, "/", nullptr, flags, nullptr) != 0) return Errno(errno, "set the propagation of /");
  if ((flags & (MS_SHARED | MS_UNBINDABLE)) == 0) return {};
  // pivot_root(2) refuses a root that is shared, or whose parent mount is. Both, where the root is a mount already.
  std::string above = launch_.rootfs;
  for (int i = 0; i < 2; ++i) {
    std::string best = "/";
    for (const sys::MountInfo& each : TRY(sys::ReadMountInfo())) {
      const std::string& point = each.mountpoint;
      bool holds = above == point || point == "/" || above.starts_with(point + "/");
      if (holds && point.size() >= best.size()) best = point;
    }
    if (mount(nullptr, best.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) return Errno(errno, "make " + best + " private");
    if (best != launch_.rootfs || best == "/") return {};
    above = best.substr(0, std::max<size_t>(best.rfind('/'), 1));
  }
  return {};
}

Result<> Root::LeaveMounts() {
  // Who made us may be gone, and its file with it: then our copy is of the node's.
  bare_ = sources_.bare.ok() && setns(sources_.bare.get(), CLONE_NEWNS) == 0;
  sources_.bare.Reset();
  if (sources_.for_bare && unshare(CLONE_NEWNS) != 0) return Errno(errno, "make a mount namespace");
  if (!bare_) {
    TRY(SetPropagation());
    return Open();
  }
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Errno(errno, "make / private");
  if (move_mount(sources_.rootfs.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return Errno(errno, "mount the root file system");
  }
  root_ = std::move(sources_.rootfs);
  return {};
}

Result<> Root::Open() {
  root_ = TRY(sys::Open(launch_.rootfs, O_PATH | O_DIRECTORY), "root file system");
  // A mount that was there before a user namespace is locked in it: not to be changed, and no root to pivot to.
  bool userns = (launch_.new_namespaces & CLONE_NEWUSER) != 0;
  for (const JoinNamespace& join : launch_.join) userns = userns || join.type == CLONE_NEWUSER;
  if (!userns && IsMountRoot(root_)) return {};
  sys::UniqueFd tree = TRY(CloneTree(root_.get(), "", AT_EMPTY_PATH | AT_RECURSIVE));
  if (move_mount(tree.get(), "", root_.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Errno(errno, "mount the root file system");
  }
  root_ = std::move(tree);
  return {};
}

Result<sys::BorrowedFd> Root::Parent(const std::string& path) {
  if (parent_.ok() && parent_path_ == path) return parent_.borrow();
  parent_ = TRY(DirInside(root_, path));
  parent_path_ = path;
  return parent_.borrow();
}

Result<sys::UniqueFd> Root::MakeDir(const std::string& path) {
  Result<Split> parts = SplitPath(path);
  if (!parts) return DirInside(root_, path);  // ends in "..", say: there already, or an error
  const Split& split = *parts;
  const bool known =
      parent_.ok() && parent_path_ == split.parent;  // then most likely it is to be made, like the last one
  if (!known) {
    Result<sys::UniqueFd> there = OpenInside(root_, path, O_PATH | O_DIRECTORY);
    if (there || there.error().os_errno() != ENOENT) return there;
  }
  sys::BorrowedFd parent = TRY(Parent(split.parent));
  if (mkdirat(parent.get(), split.name.c_str(), 0755) != 0) return DirInside(root_, path);
  made_in_parent_ = true;
  return OpenInside(parent, split.name, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
}

Result<sys::UniqueFd> Root::Target(const std::string& path, bool directory, bool symlinks) {
  uint64_t more = symlinks ? 0 : RESOLVE_NO_SYMLINKS;
  if (directory) return symlinks ? MakeDir(path) : DirInside(root_, path, more);
  Result<sys::UniqueFd> there = OpenInside(root_, path, O_PATH, more);
  if (there || there.error().os_errno() != ENOENT) return there;
  Split split = TRY(SplitPath(path));
  sys::UniqueFd parent = TRY(DirInside(root_, split.parent, more));
  // A symlink that leads nowhere: O_CREAT makes what it names, inside all the same.
  TRY(OpenInside(root_, path, O_CREAT | O_WRONLY | O_NOCTTY | O_NONBLOCK, more, 0644));
  return OpenInside(root_, path, O_PATH, more);
}

Result<> Root::AttachAt(sys::BorrowedFd detached, const Mount& mount, bool directory) {
  bool kernel_fs = mount.kind == Mount::kFilesystem && (mount.fstype == "proc" || mount.fstype == "sysfs");
  made_in_parent_ = false;
  sys::UniqueFd target = TRY(Target(mount.target, directory, !kernel_fs));
  if (move_mount(detached.get(), "", target.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Errno(errno, "attach");
  }
  if (!made_in_parent_) parent_.Reset();  // it may lie on it
  const uint64_t propagation = mount.propagation & kPropagations;
  if (propagation == MS_PRIVATE && launch_.rootfs_propagation == 0) return {};  // it is, and so is what it lies on
  return SetAttributes(detached, 0, 0, mount.recursive_propagation, propagation);
}

Result<> Root::MountFilesystem(const Mount& mount) {
  Result<sys::UniqueFd> image = OpenInside(root_, mount.target, (mount.copy_up ? O_RDONLY : O_PATH) | O_DIRECTORY);
  sys::UniqueFd made = TRY(NewFilesystem(mount, image ? image->borrow() : sys::BorrowedFd(-1)));
  if (mount.copy_up) {
    if (image) {
      TRY(CopyUp(*image, made));
    } else if (image.error().os_errno() != ENOENT) {
      return std::move(image).error();
    }
  }
  TRY(SetAttributes(made, mount.recursive_set, mount.recursive_clear, true));
  return AttachAt(made, mount, true);
}

Result<> Root::Remount(const Mount& mount) {
  sys::UniqueFd target = TRY(OpenInside(root_, mount.target, O_PATH));
  TRY(SetAttributes(target, mount.attr_set, mount.attr_clear, false));
  return SetAttributes(target, mount.recursive_set, mount.recursive_clear, true);
}

Result<> Root::MountOne(const Mount& mount, sys::UniqueFd source) {
  if (mount.kind == Mount::kRemount) return Remount(mount);
  if (mount.kind == Mount::kFilesystem) return MountFilesystem(mount);
  if (!source.ok()) source = TRY(OpenSource(mount, sys::BorrowedFd(-1)));
  TRY(Change(source, mount, launch_.rootfs_propagation != 0));
  struct stat st = TRY(Stat(source, mount.source));
  return AttachAt(source, mount, S_ISDIR(st.st_mode));
}

Result<sys::UniqueFd> Root::CloneNodeDevice(const Device& device) {
  auto clone = [&]() -> Result<sys::UniqueFd> {
    sys::UniqueFd node = TRY(sys::Open(device.path, O_PATH | O_NOFOLLOW));
    struct stat st = TRY(Stat(node, device.path));
    if ((st.st_mode & S_IFMT) != device.type || st.st_rdev != makedev(device.major, device.minor)) {
      return Error(Code::kFailedPrecondition, "the node has another one there");
    }
    return ClonePrivate(node);
  };
  if (!sources_.node_mounts.ok()) return clone();
  sys::UniqueFd own = TRY(sys::OpenAt(sources_.node_proc, "thread-self/ns/mnt", O_RDONLY));
  if (setns(sources_.node_mounts.get(), CLONE_NEWNS) != 0) return Errno(errno, "look at the node's");
  Result<sys::UniqueFd> tree = clone();
  if (setns(own.get(), CLONE_NEWNS) != 0) return Errno(errno, "return from the node's mounts");
  return tree;
}

Result<> Root::MakeDevice(const Device& device) {
  Split split = TRY(SplitPath(device.path));
  sys::BorrowedFd parent = TRY(Parent(split.parent));
  const dev_t number = makedev(device.major, device.minor);
  const char* name = split.name.c_str();
  struct stat st{};
  if (fstatat(parent.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
    // The image's own file of that name, or a symlink: not what was asked for.
    if ((st.st_mode & S_IFMT) == device.type && (device.type == S_IFIFO || st.st_rdev == number)) return {};
    if (unlinkat(parent.get(), name, 0) != 0) return Errno(errno, "replace");
  }
  if (mknodat(parent.get(), name, device.type | (device.mode & 07777), number) == 0) {
    if (fchownat(parent.get(), name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW) != 0) return Errno(errno, "chown");
    return {};
  }
  // Among bare mounts the node's cannot be had: we may make devices, so it is the container's cgroup that forbids this
  // one.
  if (errno != EPERM || (bare_ && !sources_.node_mounts.ok())) return Errno(errno, "mknod");
  // A user namespace may make none: the node's own is bound.
  parent_.Reset();
  sys::UniqueFd tree = TRY(CloneNodeDevice(device));
  sys::UniqueFd target = TRY(Target(device.path, false));
  if (move_mount(tree.get(), "", target.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) return Errno(errno, "bind");
  return {};
}

Result<> Root::MakeSymlink(const Symlink& link) {
  Split split = TRY(SplitPath(link.path));
  sys::BorrowedFd parent = TRY(Parent(split.parent));
  if (symlinkat(link.target.c_str(), parent.get(), split.name.c_str()) == 0 || errno == EEXIST) return {};
  return Errno(errno, "symlink");
}

Result<> Root::Build() {
  TRY(LeaveMounts());
  for (size_t i = 0; i < launch_.mounts.size(); ++i) {
    const Mount& mount = launch_.mounts[i];
    Result<> mounted = MountOne(mount, i < sources_.mounts.size() ? std::move(sources_.mounts[i]) : sys::UniqueFd());
    if (mounted || mount.optional) continue;
    return std::move(mounted).error().Context(StrCat("mount ", mount.kind == Mount::kBind ? mount.source : mount.fstype,
                                                     " at ", Quote(mount.target)));
  }
  umask(0);
  for (const Device& device : launch_.devices) TRY(MakeDevice(device), "device " + device.path);
  sources_.node_mounts.Reset();
  sources_.node_proc.Reset();
  for (const Symlink& link : launch_.symlinks) TRY(MakeSymlink(link), "link " + link.path);
  umask(0022);
  return {};
}

Result<Terminal> OpenTerminal(sys::BorrowedFd root, const Process& process) {
  Terminal terminal;
  terminal.master = TRY(OpenInside(root, "dev/pts/ptmx", O_RDWR | O_NOCTTY, RESOLVE_NO_SYMLINKS), "terminal");
  struct statfs fs{};
  if (fstatfs(terminal.master.get(), &fs) != 0 || fs.f_type != DEVPTS_SUPER_MAGIC) {
    return Error(Code::kFailedPrecondition, "a terminal needs a devpts at /dev/pts");
  }
  int unlock = 0;
  if (ioctl(terminal.master.get(), TIOCSPTLCK, &unlock) != 0) return Errno(errno, "unlock the terminal");
  int slave = ioctl(terminal.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return Errno(errno, "open the terminal");
  terminal.slave = sys::UniqueFd(slave);
  if (process.width > 0 && process.height > 0) {
    winsize size{};
    size.ws_col = process.width;
    size.ws_row = process.height;
    ioctl(slave, TIOCSWINSZ, &size);
  }
  // Its programs open /dev/tty and /proc/self/fd/0 as the user.
  if (fchown(slave, process.uid, static_cast<gid_t>(-1)) != 0 && errno != EPERM && errno != EINVAL) {
    return Errno(errno, "chown the terminal");
  }
  return terminal;
}

Result<sys::UniqueFd> Root::MakeTerminal(int status) {
  Terminal terminal = TRY(OpenTerminal(root_, launch_.process));
  sys::UniqueFd tree = TRY(CloneTree(terminal.slave.get(), "", AT_EMPTY_PATH));
  sys::UniqueFd console = TRY(Target("/dev/console", false, false), "/dev/console");
  if (move_mount(tree.get(), "", console.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Errno(errno, "bind the terminal to /dev/console");
  }
  Status told;
  told.kind = Status::kTerminal;
  TRY(SendStatus(status, told, terminal.master.get()));
  return std::move(terminal.slave);
}

Result<> Root::MakeWorkingDir() {
  if (launch_.process.cwd.empty() || launch_.process.cwd == "/") return {};
  // Missing is made, as runc does. On a read-only file system the chdir says what is wrong.
  Result<sys::UniqueFd> dir = DirInside(root_, launch_.process.cwd);
  if (dir || dir.error().os_errno() == EROFS) return {};
  return std::move(dir).error().Context("working directory");
}

Result<sys::UniqueFd> Root::MakeCover(bool directory) {
  if (directory) {
    sys::FsContext context = TRY(sys::FsContext::Open("tmpfs"));
    TRY(context.SetString("mode", "0555"));
    TRY(context.SetString("size", "4k"));
    return context.Mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  }
  sys::UniqueFd null = sources_.null.ok() ? std::move(sources_.null) : TRY(CloneNull());
  // It is the node's own inode: read-only, or root inside could change its mode and owner. Writing to a device stays
  // allowed.
  TRY(SetAttributes(null, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0, false));
  return null;
}

Result<> Root::Mask(const std::string& path) {
  Result<sys::UniqueFd> target = OpenInside(root_, path, O_PATH);
  if (!target) {
    int why = target.error().os_errno();
    return why == ENOENT || why == ENOTDIR ? Result<>() : Result<>(std::move(target).error());
  }
  struct stat st = TRY(Stat(*target, path));
  const bool directory = S_ISDIR(st.st_mode);
  sys::UniqueFd& kept = directory ? empty_ : null_;
  sys::UniqueFd cover = TRY(kept.ok() ? CloneTree(kept.get(), "", AT_EMPTY_PATH) : MakeCover(directory));
  if (move_mount(cover.get(), "", target->get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Errno(errno, "mask");
  }
  if (!kept.ok()) kept = std::move(cover);
  return {};
}

Result<> Root::MakeReadOnly(const std::string& path) {
  Result<sys::UniqueFd> target = OpenInside(root_, path, O_PATH);
  if (!target) {
    int why = target.error().os_errno();
    return why == ENOENT || why == ENOTDIR ? Result<>() : Result<>(std::move(target).error());
  }
  sys::UniqueFd tree = TRY(CloneTree(target->get(), "", AT_EMPTY_PATH | AT_RECURSIVE));
  TRY(SetAttributes(tree, MOUNT_ATTR_RDONLY, 0, true));
  if (move_mount(tree.get(), "", target->get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Errno(errno, "make read-only");
  }
  return {};
}

Result<> Root::Enter() {
  for (const std::string& path : launch_.read_only_paths) TRY(MakeReadOnly(path), "read-only path " + path);
  for (const std::string& path : launch_.masked_paths) TRY(Mask(path), "masked path " + path);
  for (const Mount& mount : launch_.mounts) {
    if (!mount.read_only_at_end) continue;
    sys::UniqueFd target = TRY(OpenInside(root_, mount.target, O_PATH), "mount " + mount.target);
    TRY(SetAttributes(target, MOUNT_ATTR_RDONLY, 0, false), "mount " + mount.target);
  }
  if (launch_.rootfs_read_only) TRY(SetAttributes(root_, MOUNT_ATTR_RDONLY, 0, false), "read-only root");
  TRY(Pivot());
  // What the container's root is to those that mount below it (linux.rootfsPropagation).
  uint64_t flags = launch_.rootfs_propagation & (MS_SHARED | MS_UNBINDABLE);
  if (flags != 0 && mount(nullptr, "/", nullptr, flags, nullptr) != 0) {
    return Errno(errno, "set the propagation of the root");
  }
  null_.Reset();
  empty_.Reset();
  parent_.Reset();
  root_.Reset();
  return {};
}

Result<> Root::Pivot() {
  if (fchdir(root_.get()) != 0) return Errno(errno, "enter the root file system");
  if (bare_) {
    // It lies on the namespace's root already, so this is no prison: what is below is an empty directory, and who
    // enters the namespace comes out here. pivot_root would look at all processes of the node.
    if (chroot(".") != 0) return Errno(errno, "chroot");
  } else if (!launch_.no_pivot) {
    sys::UniqueFd old = TRY(sys::Open("/", O_PATH | O_DIRECTORY));
    if (syscall(SYS_pivot_root, ".", ".") != 0) return Errno(errno, "pivot_root");
    // The old root lies on the new one now and goes as a whole; not where it came from.
    if (launch_.rootfs_propagation != 0) TRY(SetAttributes(old, 0, 0, true, MS_SLAVE), "keep the node's mounts apart");
    if (umount2(".", MNT_DETACH) != 0) return Errno(errno, "leave the node's root");
  } else {
    if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0) return Errno(errno, "move the root file system");
    if (chroot(".") != 0) return Errno(errno, "chroot");
  }
  return chdir("/") == 0 ? Result<>() : Result<>(Errno(errno, "enter the root"));
}

}  // namespace crisp::native
