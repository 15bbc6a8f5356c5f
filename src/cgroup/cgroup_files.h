// CgroupFiles: one cgroup's directories and files, opened once and read again and again with pread: no path is resolved
// twice, and what is read is that cgroup, never another one that has got its path since.
// Threading: one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroup/hierarchy.h"
#include "sys/fd.h"

namespace crisp::cgroup {

enum class Hold { kYes, kNo };  // whether a file's descriptor is kept for the next time

class CgroupFiles {
 public:
  // `layout` outlives it.
  CgroupFiles(const Layout& layout, std::string kernel_path);

  // The text of `name` in the cgroup's directory of `hierarchy` (null: there is none), which must be one of the
  // layout's; valid until the next Read. Absent: the kernel does not give it, or the cgroup is gone. At most 1 MiB.
  // `name` has static storage where it is held.
  std::optional<std::string_view> Read(const Hierarchy* hierarchy, const char* name, Hold hold);
  std::string DirOf(const Hierarchy& hierarchy) const { return hierarchy.mountpoint + kernel_path_; }

  // Of systemd.
  bool is_scope() const { return kernel_path_.ends_with(".scope"); }
  // The kernel has said that the cgroup has been removed.
  bool gone() const { return gone_; }
  size_t descriptors() const { return descriptors_; }

 private:
  struct Held {
    const Hierarchy* hierarchy;
    const char* name;
    sys::UniqueFd fd;  // not ok: there is no such file
  };
  std::optional<sys::BorrowedFd> Dir(const Hierarchy* hierarchy);
  sys::UniqueFd OpenFile(const Hierarchy* hierarchy, const char* name);
  std::optional<std::string_view> ReadFrom(int fd);

  const Layout& layout_;
  const std::string kernel_path_;
  std::vector<sys::UniqueFd> dirs_;  // by index of the hierarchy
  std::vector<Held> held_;
  std::string text_;
  size_t descriptors_ = 0;
  bool gone_ = false;
};

}  // namespace crisp::cgroup
