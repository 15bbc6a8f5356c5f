#include "cgroup/cgroup_files.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace crisp::cgroup {

CgroupFiles::CgroupFiles(const Layout& layout, std::string kernel_path)
    : layout_(layout), kernel_path_(std::move(kernel_path)), dirs_(layout.hierarchies.size()) {}

std::optional<sys::BorrowedFd> CgroupFiles::Dir(const Hierarchy* hierarchy) {
  auto index = static_cast<size_t>(hierarchy - layout_.hierarchies.data());
  if (!dirs_[index].ok()) {
    Result<sys::UniqueFd> dir = sys::Open(DirOf(*hierarchy), O_PATH | O_DIRECTORY);
    if (!dir) return std::nullopt;
    dirs_[index] = *std::move(dir);
    ++descriptors_;
  }
  return dirs_[index].borrow();
}

sys::UniqueFd CgroupFiles::OpenFile(const Hierarchy* hierarchy, const char* name) {
  std::optional<sys::BorrowedFd> dir = Dir(hierarchy);
  if (!dir) return {};
  return sys::UniqueFd(openat(dir->get(), name, O_RDONLY | O_CLOEXEC));
}

std::optional<std::string_view> CgroupFiles::ReadFrom(int fd) {
  constexpr size_t kBytesFirst = 8u << 10, kBytesMax = 1u << 20;
  if (text_.size() < kBytesFirst) text_.resize(kBytesFirst);
  size_t length = 0;
  while (true) {
    ssize_t n = pread(fd, text_.data() + length, text_.size() - length, static_cast<off_t>(length));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      gone_ = gone_ || errno == ENODEV;  // kernfs: the cgroup was removed while its file is open
      return std::nullopt;               // EOPNOTSUPP: memory.current of a threaded cgroup, and the like
    }
    length += static_cast<size_t>(n);
    // A short read is the end: kernfs fills what it is given.
    if (length < text_.size() || text_.size() >= kBytesMax) return std::string_view(text_).substr(0, length);
    text_.resize(text_.size() * 2);
  }
}

std::optional<std::string_view> CgroupFiles::Read(const Hierarchy* hierarchy, const char* name, Hold hold) {
  if (hierarchy == nullptr || gone_) return std::nullopt;
  if (hold == Hold::kNo) {
    sys::UniqueFd fd = OpenFile(hierarchy, name);
    return fd.ok() ? ReadFrom(fd.get()) : std::nullopt;
  }
  for (const Held& held : held_) {
    if (held.hierarchy == hierarchy && std::strcmp(held.name, name) == 0) {
      return held.fd.ok() ? ReadFrom(held.fd.get()) : std::nullopt;
    }
  }
  sys::UniqueFd fd = OpenFile(hierarchy, name);
  // That a file is missing is remembered only where its directory is there: the cgroup may come later.
  if (!fd.ok() && !Dir(hierarchy)) return std::nullopt;
  if (fd.ok()) ++descriptors_;
  held_.push_back({hierarchy, name, std::move(fd)});
  return held_.back().fd.ok() ? ReadFrom(held_.back().fd.get()) : std::nullopt;
}

}  // namespace crisp::cgroup
