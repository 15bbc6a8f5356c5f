// The files of a checkpoint that is to be restored, brought from an archive or an image's layer into a directory of
// ours: regular files with names that format.h knows, nothing else. No symlink of the source is followed or made, no
// device opened, limits on count and bytes.
//
// Threading: any thread; one directory is its caller's alone.
#pragma once

#include <string>

#include "base/context.h"
#include "checkpoint/format.h"
#include "sys/fd.h"

namespace crisp::checkpoint {

// `archive`: a tar, plain or gzip or zstd, read from its beginning. `dir`: existing and empty.
// kDataLoss: damaged. kInvalidArgument: no checkpoint, or refused. kResourceExhausted: over a limit.
Result<> UnpackArchive(const Ctx& ctx, sys::BorrowedFd archive, const std::string& dir, const Limits& limits = {});

// From the directory of an unpacked image layer. Errors as above.
Result<> CopyLayer(const Ctx& ctx, const std::string& layer_dir, const std::string& dir, const Limits& limits = {});

// A small file of `dir`; missing: kInvalidArgument (the archive is no checkpoint).
Result<std::string> ReadMember(const std::string& dir, const char* name, const Limits& limits = {});

// Gives every UTS namespace in the CRIU images of `dir` this host name. None: fine, the container was in its node's.
Result<> SetHostname(const std::string& dir, std::string_view hostname);

}  // namespace crisp::checkpoint
