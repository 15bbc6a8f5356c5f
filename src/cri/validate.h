// Checks of single texts and numbers of a request. Each error names the field as CRI writes it.
// Threading: pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace crisp::cri {

// Limits are ours; CRI names none. The kubelet stays far below.
inline constexpr size_t kNameBytesMax = 1024;
inline constexpr size_t kPathBytesMax = 4095;  // PATH_MAX without its NUL

// A name that becomes part of file names and messages: not empty, no '/', not "." or "..", no control characters.
Result<> CheckName(std::string_view field, std::string_view value);
// The same, but may be empty.
Result<> CheckOptionalName(std::string_view field, std::string_view value);
// A text handed to C interfaces: no NUL.
Result<> CheckText(std::string_view field, std::string_view value);
// A word of a line of /etc/hosts or resolv.conf: no white space, no control characters, at most a name's length.
Result<> CheckWord(std::string_view field, std::string_view value);
// Not empty, no NUL, at most kPathBytesMax.
Result<> CheckPath(std::string_view field, std::string_view value);
// Absolute, and without "..": nothing above it can be meant.
Result<> CheckAbsolutePath(std::string_view field, std::string_view value);
// Relative, and without "..".
Result<> CheckRelativePath(std::string_view field, std::string_view value);
// A user or group id as the kernel has it: 0 … 2^32-2 (2^32-1 means "unchanged").
Result<> CheckUid(std::string_view field, int64_t value);
// An object id in a request: not empty (ids may be prefixes, and the empty one is a prefix of all), no control
// characters, not longer than a name.
Result<> CheckId(std::string_view field, std::string_view value);
// A reference or id of an image. A text that looks like a URL with credentials is refused without being repeated.
Result<> CheckImageName(std::string_view field, std::string_view value);

Error Invalid(std::string_view field, std::string_view problem);

}  // namespace crisp::cri
