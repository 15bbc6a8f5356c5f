#include "rootfs/relabel.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <memory>

#include "base/strings.h"

namespace crisp::rootfs {

namespace {

constexpr int kDepthMax = 1000;
constexpr const char* kAttribute = "security.selinux";

bool IsWithin(std::string_view path, std::string_view dir) {
  return path.starts_with(dir) && (path.size() == dir.size() || path[dir.size()] == '/');
}

class Labeller {
 public:
  Labeller(const Ctx& ctx, const std::string& label, dev_t device) : ctx_(ctx), label_(label), device_(device) {}

  // `entry` is O_PATH|O_NOFOLLOW and has been looked at: `info`.
  Result<> Enter(sys::BorrowedFd entry, const struct stat& info) {
    TRY(ctx_.Check());
    if (info.st_dev != device_ || S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) return {};
    // By the name of the descriptor: fsetxattr refuses O_PATH, and a path could be swapped meanwhile. Of a symlink that
    // name would mean its target; its own label does not matter.
    if (S_ISLNK(info.st_mode)) return {};
    std::string name = StrCat("/proc/self/fd/", entry.get());
    if (setxattr(name.c_str(), kAttribute, label_.c_str(), label_.size() + 1, 0) != 0 && errno != ENOTSUP) {
      return Errno(errno, "set the SELinux label " + label_);
    }
    return S_ISDIR(info.st_mode) ? Children(entry) : Result<>();
  }

 private:
  Result<> Children(sys::BorrowedFd directory) {
    if (++depth_ > kDepthMax) return Error(Code::kFailedPrecondition, "directories nested too deeply");
    sys::UniqueFd fd = TRY(sys::OpenAt(directory, ".", O_RDONLY | O_DIRECTORY));
    std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd.get()), closedir);
    if (listing == nullptr) return Errno(errno, "list a directory");
    (void)fd.Release();
    while (dirent* each = readdir(listing.get())) {
      std::string name = each->d_name;
      if (name == "." || name == "..") continue;
      Result<sys::UniqueFd> child = sys::OpenAt(directory, name, O_PATH | O_NOFOLLOW);
      if (!child && child.error().code() == Code::kNotFound) continue;  // gone meanwhile
      sys::UniqueFd opened = TRY(std::move(child));
      struct stat info;
      if (fstat(opened.get(), &info) != 0) return Errno(errno, "stat " + name);
      TRY(Enter(opened, info));
    }
    --depth_;
    return {};
  }
  const Ctx& ctx_;
  const std::string& label_;
  const dev_t device_;
  int depth_ = 0;
};

}  // namespace

bool MayRelabel(const std::string& path) {
  // Whole trees that are the node's own.
  static constexpr std::array<std::string_view, 13> kTrees = {"/bin",   "/boot",  "/dev",        "/etc",  "/lib",
                                                              "/lib32", "/lib64", "/proc",       "/root", "/sbin",
                                                              "/sys",   "/usr",   "/run/systemd"};
  // Directories where others keep theirs: they themselves stay, what is in them may be a volume.
  static constexpr std::array<std::string_view, 11> kRoots = {"/",    "/home", "/media", "/mnt",     "/opt",    "/run",
                                                              "/srv", "/tmp",  "/var",   "/var/lib", "/var/log"};
  for (std::string_view tree : kTrees) {
    if (IsWithin(path, tree)) return false;
  }
  for (std::string_view root : kRoots) {
    if (path == root) return false;
  }
  return true;
}

Result<> Relabel(const Ctx& ctx, sys::BorrowedFd tree, const std::string& label) {
  struct stat info;
  if (fstat(tree.get(), &info) != 0) return Errno(errno, "stat a volume");
  return Labeller(ctx, label, info.st_dev).Enter(tree, info);
}

}  // namespace crisp::rootfs
