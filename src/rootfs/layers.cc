#include "rootfs/layers.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::rootfs {

namespace {

std::string ParentOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

// The directory that all of `paths` lie below: one mount of it serves all layers.
std::string CommonParent(const std::vector<std::string>& paths) {
  std::string common = ParentOf(paths.front());
  for (const std::string& path : paths) {
    while (common != "/" && !path.starts_with(common + "/")) common = ParentOf(common);
  }
  return common;
}

std::vector<std::string> Rebase(const std::vector<std::string>& paths, const std::string& from, const std::string& to) {
  size_t skip = from == "/" ? 0 : from.size();
  std::vector<std::string> out;
  for (const std::string& path : paths) out.push_back(to + path.substr(skip));
  return out;
}

Result<sys::UniqueFd> MappedCopy(const std::string& dir, sys::BorrowedFd userns) {
  sys::UniqueFd source = TRY(sys::Open(dir, O_PATH | O_DIRECTORY));
  sys::UniqueFd copy = TRY(sys::CloneMount(source, sys::BindDepth::kSingle), dir);
  TRY(sys::IdmapMount(copy, userns), StrCat("the file system of ", dir));
  TRY(sys::ChangeMount(copy, MOUNT_ATTR_RDONLY, sys::MountPropagation::kPrivate), dir);
  return copy;
}

}  // namespace

Result<> MountLayers(sys::OverlaySpec overlay, const Idmap& idmap, const std::string& scratch,
                     const std::string& target, const std::string& bottom) {
  const std::vector<std::string> lower = overlay.lower;
  auto mount_with = [&](std::vector<std::string> layers) {
    if (!bottom.empty()) layers.insert(layers.begin(), bottom);
    overlay.lower = std::move(layers);
    return sys::MountOverlay(overlay, target);
  };
  if (!idmap.on()) return mount_with(lower);
  std::string common = CommonParent(lower);
  sys::UniqueFd copy = TRY(MappedCopy(common, idmap.userns));
  Result<> mounted = mount_with(Rebase(lower, common, StrCat("/proc/self/fd/", copy.get())));
  if (mounted || mounted.error().os_errno() != EINVAL) return mounted;
  // Kernels before 6.15 copy layers from their own mount namespace only. To be deleted when 6.15 is the oldest
  // supported.
  TRY(sys::MakeDir(scratch, 0700));
  TRY(sys::AttachMount(copy, scratch));
  mounted = mount_with(Rebase(lower, common, scratch));
  TRY(DetachLayers(scratch));
  return mounted;
}

Result<> DetachLayers(const std::string& scratch) {
  TRY(sys::Unmount(scratch));
  if (rmdir(scratch.c_str()) != 0 && errno != ENOENT) return Errno(errno, "rmdir " + scratch);
  return {};
}

}  // namespace crisp::rootfs
