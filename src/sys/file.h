// Whole files and directory trees of our own. Paths inside images and containers do not go through here: those resolve
// by OpenInRoot.
#pragma once

#include <stop_token>
#include <string>
#include <string_view>

#include "sys/fd.h"

namespace crisp::sys {

Result<std::string> ReadFile(const std::string& path, size_t bytes_max = 4u << 20);
// Writes into the existing file in one write(2), as the files of /proc, /sys and cgroupfs want it. The error names the
// value and the path.
Result<> WriteExisting(const std::string& path, std::string_view value);
Result<> WriteExistingAt(BorrowedFd dir, const std::string& path, std::string_view value);

enum class Durability { kNone, kSynced };
// Temporary file beside `path`, then rename: readers see the old or the new content, never a part. kSynced also syncs
// file and directory before it returns.
Result<> WriteFileAtomic(const std::string& path, std::string_view content, mode_t mode, Durability durability);

Result<> MakeDir(const std::string& path, mode_t mode);    // existing directory: success, mode left alone
Result<> MakeDirs(const std::string& path, mode_t mode);   // with parents
// Says to the file system that this directory's subdirectories have nothing to do with each other (ext4's "top of a
// directory hierarchy", chattr +T): ext4 places them in different parts of the disk then, instead of all in the parent's.
// There each new file would search past all that were deleted in the last minute (kernel fs/ext4/ialloc.c,
// recently_deleted), which costs milliseconds where containers come and go. Nothing where a file system has no such notion.
void SpreadSubdirectories(const std::string& dir);
// Removes a tree, also one that a container or an image made: any depth with a few descriptors and no recursion (deep
// directories are moved up first), never follows a symlink, never crosses into another mount (kFailedPrecondition names
// it). Missing is success. A stop leaves the rest: kCancelled.
Result<> RemoveTree(const std::string& path, const std::stop_token& stop = {});
Result<> RemoveTreeAt(BorrowedFd dir, const std::string& name);
Result<> RemoveFile(const std::string& path);              // missing is success
bool Exists(const std::string& path);                      // lstat

}  // namespace crisp::sys
