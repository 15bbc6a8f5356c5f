// Writing a checkpoint archive to a place that somebody named: the directory is opened once, the file is made beside
// its final name, root's alone (0600), and gets that name only when it is whole. An existing file is never replaced, a
// symlink never followed. A writer that is destroyed without Commit leaves nothing.
//
// Threading: one thread. Errors: kAlreadyExists; kResourceExhausted over bytes_max or with a full disk.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::checkpoint {

// How many names ending in ".tar" lie beside `path`: what has been checkpointed there already (S54).
Result<size_t> CountArchives(const std::string& path);

// A whole file at `path`, by a temporary name as ArchiveWriter's; nothing is there yet, or kAlreadyExists.
Result<> CommitText(const std::string& path, const std::string& tag, std::string_view text);

class ArchiveWriter {
 public:
  // `path` is absolute; its directory exists. `tag` makes the temporary name, so that a file that was left by a crash
  // can be found again.
  static Result<ArchiveWriter> Create(const std::string& path, const std::string& tag, uint64_t bytes_max);
  // Removes what a writer of this path and tag that was not destroyed has left. Nothing there: success.
  static Result<> Discard(const std::string& path, const std::string& tag);
  ArchiveWriter(ArchiveWriter&& other) noexcept;
  ArchiveWriter& operator=(ArchiveWriter&&) = delete;
  ~ArchiveWriter();

  Result<> AddText(const std::string& name, std::string_view text);
  // As much of the regular file as there is when it is opened here. Missing: nothing is added.
  Result<> AddFile(const Ctx& ctx, const std::string& name, const std::string& path);
  // Every regular file directly in `dir`, as NAME/file.
  Result<> AddDirectory(const Ctx& ctx, const std::string& name, const std::string& dir);
  // The file that Commit gives its name.
  Result<uint64_t> Inode() const;
  // Removes `path` if it is that file. Not there, another one: success.
  static Result<> Withdraw(const std::string& path, uint64_t inode);
  // Synced and in place.
  Result<> Commit();

 private:
  ArchiveWriter(sys::UniqueFd dir, std::string name, std::string temporary, sys::UniqueFd file, uint64_t bytes_max)
      : dir_(std::move(dir)),
        name_(std::move(name)),
        temporary_(std::move(temporary)),
        file_(std::move(file)),
        left_(bytes_max) {}
  friend Result<> CommitText(const std::string& path, const std::string& tag, std::string_view text);
  Result<> Write(std::string_view bytes);
  Result<> Place();
  Result<> Header(const std::string& name, uint64_t size, bool is_directory);

  sys::UniqueFd dir_;
  std::string name_, temporary_;  // within dir_; no temporary: committed or moved from
  sys::UniqueFd file_;
  uint64_t left_;
};

}  // namespace crisp::checkpoint
