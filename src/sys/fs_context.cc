#include "sys/fs_context.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"

namespace crisp::sys {

namespace {

// Everything the kernel wrote about a context since the last look ("e overlay: …" → "overlay: …"), joined by "; ".
std::string ContextLog(BorrowedFd context) {
  std::string all;
  char message[1024];
  ssize_t n;
  while ((n = read(context.get(), message, sizeof message)) > 0) {
    std::string_view text = Trim(std::string_view(message, static_cast<size_t>(n)));
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);
    if (!all.empty()) all += "; ";
    all += text;
  }
  return all;
}

}  // namespace

Result<FsContext> FsContext::Open(const std::string& type) {
  int fd = fsopen(type.c_str(), FSOPEN_CLOEXEC);
  if (fd < 0) return Errno(errno, StrCat("fsopen ", type));
  return FsContext(UniqueFd(fd), type);
}

Result<> FsContext::SetString(const std::string& key, const std::string& value) {
  if (fsconfig(fd_.get(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) == 0) return {};
  return Failed(StrCat(type_, " option ", key, "=", value));
}

Result<> FsContext::SetFlag(const std::string& key) {
  if (fsconfig(fd_.get(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0) == 0) return {};
  return Failed(StrCat(type_, " option ", key));
}

Result<UniqueFd> FsContext::Mount(unsigned attributes) {
  if (fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Failed(StrCat("create ", type_));
  int mount = fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes);
  if (mount < 0) return Failed(StrCat("fsmount ", type_));
  return UniqueFd(mount);
}

Error FsContext::Failed(const std::string& what) const {
  int saved = errno;
  std::string log = ContextLog(fd_);
  return Errno(saved, log.empty() ? what : StrCat(what, " (", log, ")"));
}

}  // namespace crisp::sys
