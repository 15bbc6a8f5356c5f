// A file system that is being made (fsopen(2), fsconfig(2), fsmount(2)): parameter by parameter, with the kernel's own words
// in the error of one that it refuses. The mount is detached. Threading: one thread at a time.
#pragma once

#include <string>

#include "sys/fd.h"

namespace crisp::sys {

class FsContext {
 public:
  static Result<FsContext> Open(const std::string& type);
  Result<> SetString(const std::string& key, const std::string& value);  // at most 255 bytes
  Result<> SetFlag(const std::string& key);
  // `attributes`: MOUNT_ATTR_*.
  Result<UniqueFd> Mount(unsigned attributes);

 private:
  FsContext(UniqueFd fd, std::string type) : fd_(std::move(fd)), type_(std::move(type)) {}
  Error Failed(const std::string& what) const;
  UniqueFd fd_;
  std::string type_;
};

}  // namespace crisp::sys
