#include "shim/stdio.h"

#include <fcntl.h>

#include <cerrno>

#include "sys/file.h"

namespace crisp::shim {

Result<> SetNonBlocking(sys::BorrowedFd fd) {
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Errno(errno, "set O_NONBLOCK");
  return {};
}

namespace {

Result<> MakePipe(sys::UniqueFd& read, sys::UniqueFd& write, sys::UniqueFd& ours) {
  sys::Pipe pipe = TRY(sys::MakePipe());
  read = std::move(pipe.read);
  write = std::move(pipe.write);
  return SetNonBlocking(ours);
}

}  // namespace

void Stdio::CloseTheirs() {
  for (sys::UniqueFd* each : {&in_read, &out_write, &err_write}) each->Reset();
}

Result<Stdio> MakeStdio(bool with_in) {
  Stdio stdio;
  TRY(MakePipe(stdio.out_read, stdio.out_write, stdio.out_read));
  TRY(MakePipe(stdio.err_read, stdio.err_write, stdio.err_read));
  if (with_in) TRY(MakePipe(stdio.in_read, stdio.in_write, stdio.in_write));
  return stdio;
}

Result<native::LaunchOptions> NativeOptions(Stdio& stdio) {
  if (!stdio.in_read.ok()) stdio.in_read = TRY(sys::Open("/dev/null", O_RDONLY));
  native::LaunchOptions options;
  options.in = stdio.in_read.get();
  options.out = stdio.out_write.get();
  options.err = stdio.err_write.get();
  return options;
}

}  // namespace crisp::shim
