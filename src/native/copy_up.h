// What an image has in a directory, copied into a file system that is about to cover it ("tmpcopyup"). Internal.
#pragma once

#include "sys/fd.h"

namespace crisp::native {

// Directories, files, links and device-less special files, with modes and owners. Follows no symlink. Both are directories.
Result<> CopyUp(sys::BorrowedFd from, sys::BorrowedFd to, int depth = 0);

}  // namespace crisp::native
