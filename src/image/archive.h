// ArchiveFile: an image archive (OCI layout or docker save, as a tar, packed or not) → its members by name, readable in any
// order. A packed archive is unpacked once into a file without a name.
// Threading: reading from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/context.h"
#include "image/registry.h"
#include "sys/fd.h"

namespace crisp::image {

class ArchiveFile {
 public:
  // `tmp_dir`: where an unpacked copy may lie.
  static Result<ArchiveFile> Open(const Ctx& ctx, const std::string& path, const std::string& tmp_dir);

  // By clean path ("blobs/sha256/…"); symlinks and hard links of the archive are followed within it.
  bool Has(const std::string& name) const { return Locate(name).has_value(); }
  std::optional<uint64_t> SizeOf(const std::string& name) const;
  // kNotFound; kInvalidArgument: larger than bytes_max.
  Result<std::string> Read(const std::string& name, uint64_t bytes_max) const;
  Result<> Stream(const Ctx& ctx, const std::string& name, const BlobSink& sink) const;

 private:
  struct Member {
    uint64_t offset = 0;
    uint64_t size = 0;
    std::string link;  // another member's name
  };
  friend class ArchiveIndexer;
  std::optional<Member> Locate(const std::string& name) const;

  sys::UniqueFd fd_;
  std::map<std::string, Member> members_;
};

}  // namespace crisp::image
