#include "rootfs/stage.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/failpoint.h"
#include "base/strings.h"
#include "rootfs/layers.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace crisp::rootfs {

namespace {

// Beside `target` while an image volume is put together.
std::string WholeImage(const std::string& target) { return target + ".image"; }
std::string EmptyLayer(const std::string& target) { return target + ".empty"; }
std::string LayersOf(const std::string& target) { return target + ".layers"; }

Result<> MakeTarget(sys::BorrowedFd source, const std::string& target) {
  struct stat info;
  if (fstat(source.get(), &info) != 0) return Errno(errno, "stat the source of " + target);
  if (S_ISDIR(info.st_mode)) return sys::MakeDir(target, 0700);
  TRY(sys::Open(target, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  return {};
}

bool IsFileOrDirectory(sys::BorrowedFd fd) {
  struct stat info;
  return fstat(fd.get(), &info) == 0 && (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode));
}

}  // namespace

Result<> StageMount(const StageSpec& spec) {
  sys::UniqueFd copy = TRY(sys::CloneMount(spec.source, sys::BindDepth::kRecursive), spec.target);
  // Before anything is unmounted here: an unmount below a shared mount is done to its peers as well, the node's own.
  auto propagation =
      spec.receive == Receive::kFromHost ? sys::MountPropagation::kSlave : sys::MountPropagation::kPrivate;
  TRY(sys::ChangeMount(copy, 0, propagation), spec.target);
  if (spec.idmap.on()) TRY(sys::IdmapMount(copy, spec.idmap.userns));
  TRY(MakeTarget(spec.source, spec.target));
  return sys::AttachMount(copy, spec.target);
}

Result<> StageImageVolume(const ImageVolumeSpec& spec) {
  std::string whole = WholeImage(spec.target), empty = EmptyLayer(spec.target);
  TRY(sys::MakeDir(whole, 0755));
  // overlayfs wants two layers where nothing is writable: below the image there is an empty one.
  TRY(sys::MakeDir(empty, 0755));
  sys::OverlaySpec overlay;
  overlay.lower = spec.layer_dirs;
  Idmap idmap = spec.idmap;
  if (overlay.lower.empty()) {
    overlay.lower.push_back(EmptyLayer(whole));
    TRY(sys::MakeDir(overlay.lower.front(), 0755));
    idmap = {};
  }
  TRY(MountLayers(std::move(overlay), idmap, LayersOf(spec.target), whole, empty));
  FAILPOINT("stage_image.after_mount");
  sys::UniqueFd root = TRY(sys::Open(whole, O_PATH | O_DIRECTORY));
  Result<sys::UniqueFd> part = sys::OpenInRoot(root, spec.sub_path.empty() ? "/" : spec.sub_path, O_PATH);
  if (!part) return std::move(part).error().As(Code::kNotFound).Context(StrCat("sub path ", Quote(spec.sub_path)));
  if (!IsFileOrDirectory(*part)) {
    return Error(Code::kNotFound, StrCat("sub path ", Quote(spec.sub_path), " is neither a file nor a directory"));
  }
  sys::UniqueFd copy = TRY(sys::CloneMount(*part, sys::BindDepth::kSingle), spec.target);
  TRY(sys::ChangeMount(copy, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID,
                       sys::MountPropagation::kPrivate));
  TRY(MakeTarget(*part, spec.target));
  TRY(sys::AttachMount(copy, spec.target));
  return sys::Unmount(whole);  // the copy keeps the overlay
}

Result<> UnstageMounts(const std::string& dir) {
  std::error_code error;
  std::filesystem::directory_iterator entries(dir, error);
  if (error == std::errc::no_such_file_or_directory) return {};
  if (error) return Errno(error.value(), "list " + dir);
  for (const auto& entry : entries) TRY(sys::Unmount(entry.path().string()));
  return sys::RemoveTree(dir);
}

Result<> ProbeIdmap(const std::string& dir, sys::BorrowedFd userns) {
  // Always the same place, so that the next start removes what a crash within this one has left.
  std::string place = dir + "/probe";
  TRY(UnstageMounts(place));
  TRY(sys::MakeDirs(place, 0700));
  auto probe = [&]() -> Result<> {
    TRY(sys::MakeDir(place + "/layer", 0755));
    return StageImageVolume(
        {.layer_dirs = {place + "/layer"}, .sub_path = "", .idmap = {.userns = userns}, .target = place + "/v"});
  };
  Result<> works = probe();
  TRY(UnstageMounts(place));
  return works;
}

}  // namespace crisp::rootfs
