#include "rootfs/rootfs.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <set>

#include "base/strings.h"
#include "rootfs/layers.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace crisp::rootfs {

namespace {

std::string WorkDir(const std::string& container_dir) { return container_dir + "/work"; }

// Where layers are attached for a moment on kernels that need it (layers.h).
std::string LayersDir(const std::string& container_dir) { return container_dir + "/layers"; }

// The kernel leaves this mark in the work directory of a volatile overlay and refuses to mount it again, since after a
// crash the upper directory may be torn (Documentation/filesystems/overlayfs.rst, "Volatile mount"). We mount again
// only within the same boot (a retry after an error, say), where the page cache is whole.
Result<> ForgetVolatileMark(const std::string& container_dir) {
  return sys::RemoveTree(WorkDir(container_dir) + "/work/incompat");
}

Result<> MakeWritableDirs(const RootfsSpec& spec) {
  TRY(sys::MakeDirs(spec.container_dir, 0700));
  // The upper directory is the container's "/": 0755 whatever our umask is.
  std::string upper = UpperDir(spec.container_dir);
  TRY(sys::MakeDir(upper, 0755));
  std::string work = WorkDir(spec.container_dir);
  TRY(sys::MakeDir(work, 0700));
  for (const std::string* dir : {&upper, &work}) {
    // New and empty. What the container writes there has its ids on the node already.
    if (spec.idmap.on() && chown(dir->c_str(), spec.idmap.root_uid, spec.idmap.root_gid) != 0) {
      return Errno(errno, "chown " + *dir);
    }
  }
  if (chmod(upper.c_str(), 0755) != 0) return Errno(errno, "chmod " + upper);
  return ForgetVolatileMark(spec.container_dir);
}

}  // namespace

std::string UpperDir(const std::string& container_dir) { return container_dir + "/upper"; }

Result<> PrepareRootfs(const Ctx& ctx, const RootfsSpec& spec) {
  TRY(ctx.Check());
  TRY(sys::MakeDirs(spec.mount_point, 0755));
  if (TRY(sys::IsMountPoint(spec.mount_point))) return {};
  TRY(MakeWritableDirs(spec));
  std::vector<std::string> lower = spec.layer_dirs;
  if (lower.empty()) {  // overlayfs wants one lower directory
    lower.push_back(spec.container_dir + "/empty");
    TRY(sys::MakeDir(lower[0], 0755));
  }
  sys::OverlaySpec overlay{
      .lower = lower, .upper = UpperDir(spec.container_dir), .work = WorkDir(spec.container_dir), .skip_sync = true};
  const std::string bottom = spec.idmap.on() ? "" : spec.bottom_dir;
  return MountLayers(std::move(overlay), spec.idmap, LayersDir(spec.container_dir), spec.mount_point, bottom);
}

Result<> UnmountRootfs(const Ctx& ctx, const std::string& container_dir, const std::string& mount_point) {
  TRY(ctx.Check());
  TRY(sys::Unmount(mount_point));  // with all that is mounted inside
  // What was mounted below while nothing was mounted here is left: the whole table, long with many pods, is read for it
  // only.
  if (rmdir(mount_point.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
    TRY(sys::UnmountBelow(mount_point));
    if (rmdir(mount_point.c_str()) != 0 && errno != ENOENT) return Errno(errno, "rmdir " + mount_point);
  }
  return DetachLayers(LayersDir(container_dir));
}

namespace {

class UsageWalk {
 public:
  explicit UsageWalk(const Ctx& ctx) : ctx_(ctx) {}

  Result<> Enter(sys::BorrowedFd parent, const std::string& name) {
    TRY(ctx_.Check());
    Result<sys::UniqueFd> opened = sys::OpenAt(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!opened) return opened.error().code() == Code::kNotFound ? Result<>() : std::move(opened).error();
    std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(opened->get()), closedir);
    if (dir == nullptr) return Errno(errno, "list " + name);
    sys::BorrowedFd here(opened->Release());
    Count(here, "");
    while (dirent* entry = readdir(dir.get())) {
      std::string child = entry->d_name;
      if (child == "." || child == "..") continue;
      if (entry->d_type == DT_DIR) {
        if (++depth_ > 1000) return Error(Code::kInternal, "directories nested too deeply");
        TRY(Enter(here, child));
        --depth_;
      } else {
        Count(here, child);
      }
    }
    return {};
  }
  Usage usage() const { return usage_; }

 private:
  void Count(sys::BorrowedFd dir, const std::string& name) {
    struct stat info;
    if (fstatat(dir.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0) return;  // gone meanwhile
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !linked_.insert(info.st_ino).second) return;
    usage_.bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    ++usage_.inodes;
  }
  const Ctx& ctx_;
  Usage usage_;
  std::set<ino_t> linked_;  // several names of one inode count once
  int depth_ = 0;
};

}  // namespace

Result<Usage> WritableUsage(const Ctx& ctx, const std::string& container_dir) {
  UsageWalk walk(ctx);
  TRY(walk.Enter(sys::BorrowedFd(AT_FDCWD), UpperDir(container_dir)));
  return walk.usage();
}

}  // namespace crisp::rootfs
