// The pipes between the shim and a container's process.
#pragma once

#include "native/launcher.h"
#include "sys/fd.h"

namespace crisp::shim {

struct Stdio {
  sys::UniqueFd in_read, out_write, err_write;  // the process's ends, until it has them
  sys::UniqueFd in_write, out_read, err_read;   // ours, non-blocking
  void CloseTheirs();
};

Result<> SetNonBlocking(sys::BorrowedFd fd);
// Without `with_in` there is no pipe for stdin.
Result<Stdio> MakeStdio(bool with_in);
// What the native launcher is told of it; where there is no pipe for stdin it is /dev/null, opened here.
Result<native::LaunchOptions> NativeOptions(Stdio& stdio);

}  // namespace crisp::shim
