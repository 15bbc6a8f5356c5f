// LayerWriter: the entries of one layer's archive → a directory that overlayfs takes as a lower layer.
//
// The archive is hostile (security rows S01–S08). Every parent directory is resolved by openat2(RESOLVE_IN_ROOT |
// RESOLVE_NO_MAGICLINKS) from the layer's root, each object is then made and changed through its parent's descriptor with
// no symlink followed. The descriptor of the last parent is kept for the next entry, and dropped as soon as anything
// below the root was replaced or removed: that cache is where CVE-2025-47290 came from.
//
// Whiteouts (image-spec layer.md) become overlayfs's own: `.wh.x` a character device 0/0, `.wh..wh..opq` the attribute
// trusted.overlay.opaque. What an image could use to speak to overlayfs or IMA itself is left out: the attributes
// trusted.*, user.overlay.*, security.* except capability, and character devices 0/0.
//
// Threading: one thread. Needs root (ownership, device nodes, trusted attributes).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "codec/tar.h"
#include "sys/fd.h"

namespace crisp::image {

struct UnpackLimits {
  uint64_t bytes_max = 64ull << 30;        // of the plain archive, and of all files' sizes together
  uint64_t entries_max = 10'000'000;       // directories made without an entry count too
  uint64_t directory_path_bytes_max = 256u << 20;  // directories are remembered until the end
};

struct LayerStats {
  uint64_t disk_bytes = 0;  // estimated as allocated: files rounded up to blocks, 4 KiB a directory
  uint64_t inodes = 0;
  bool is_empty = false;     // not a single entry
  // Each file's content is in the directory: with the skeleton the archive can be made again. Not so when a later entry
  // replaced a file, or a marker had content.
  bool is_exact = true;
  bool opaque_root = false;  // hides everything below it: overlayfs has no such mark on a layer's root
  // Directories that the archive names only as parents of others. Sorted. Their mode and owner are not the image's
  // word: they come from the layer below, if it has them.
  std::vector<std::string> implicit_dirs;
};

class LayerWriter final : public codec::TarSink {
 public:
  // `root` is an empty directory, and outlives the writer.
  LayerWriter(sys::BorrowedFd root, const UnpackLimits& limits) : root_(root), limits_(limits) {}

  Result<> OnEntry(const codec::TarEntry& entry) override;
  Result<> OnData(uint64_t offset, std::string_view bytes) override;
  Result<> OnEntryEnd() override;
  // Gives the directories their modes and times, which later entries would have changed again. Call once, at the end.
  Result<LayerStats> Finish();

 private:
  struct Place {  // where an entry goes: a name in an opened directory
    std::string parent;
    std::string name;
    int dir = -1;  // of parent; borrowed from the cache or the root
  };
  struct Directory {
    std::string path;
    uint32_t mode;
    int64_t mtime_seconds;
    int32_t mtime_nanos;
    std::string default_acl;  // would be inherited by whatever is made inside
  };
  enum class Chmod { kNo, kYes };
  enum class Existing { kNothing, kDirectory, kWhiteout, kOther };

  Result<Place> Locate(const std::string& clean_path);
  Result<int> ParentFd(const std::string& parent);
  Result<sys::UniqueFd> MakeParents(const std::string& parent);
  Result<sys::UniqueFd> MakeParent(sys::BorrowedFd dir, const std::string& name, const std::string& path);
  Result<Existing> Look(const Place& place) const;
  Result<> RemoveExisting(const Place& place);

  Result<> ApplyRoot();
  Result<> ApplyDirectory(const Place& place, const std::string& path);
  Result<> BeginFile(const Place& place);
  Result<> ApplyHardlink(const Place& place);
  Result<> ApplySymlink(const Place& place);
  Result<> ApplyNode(const Place& place);
  Result<> ApplyWhiteout(const Place& place);
  Result<> SetMetadata(const Place& place, Chmod chmod);
  Result<> SetXattrs(sys::BorrowedFd fd, std::string* default_acl);
  Result<> SetOpaque(sys::BorrowedFd dir, const std::string& name);
  Result<> Count(uint64_t entries, uint64_t bytes);
  Result<> CountPath(const std::string& path);
  Result<> Remember(Directory directory);

  const sys::BorrowedFd root_;
  const UnpackLimits limits_;
  codec::TarEntry entry_;     // the current one
  sys::UniqueFd file_;        // of the current entry, if a file; else its content goes nowhere
  std::string cached_parent_;
  sys::UniqueFd cached_fd_;
  bool cache_is_stale_ = false;
  std::vector<Directory> directories_;
  std::set<std::string> implicit_dirs_;
  uint64_t path_bytes_ = 0;
  uint64_t entries_ = 0;
  uint64_t bytes_ = 0;
  LayerStats stats_;
};

// `path` as an entry or a hard link's target, in the form without leading, doubled and trailing slashes, "." and "..";
// ".." at the top stays at the top, as in a chroot. Empty: the root itself.
std::string CleanLayerPath(std::string_view path);

}  // namespace crisp::image
