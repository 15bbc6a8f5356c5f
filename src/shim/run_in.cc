#include "shim/run_in.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::shim {

namespace {

constexpr int kFailed = 125;

// A v1 cgroup is joined by its file "tasks", which moves one thread only, and that is all we are.
Result<> JoinCgroup(const std::string& dir) {
  Result<> joined = sys::WriteExisting(dir + "/tasks", "0");
  if (joined || joined.error().os_errno() != ENOENT) return joined;
  return sys::WriteExisting(dir + "/cgroup.procs", "0");
}

// "3=/path"
Result<> OpenAs(std::string_view word) {
  size_t equals = word.find('=');
  std::optional<int> number = ParseInt<int>(word.substr(0, equals));
  if (equals == word.npos || !number || *number < 3)
    return Error(Code::kInvalidArgument, StrCat("--open ", Quote(word)));
  sys::UniqueFd file = TRY(sys::Open(std::string(word.substr(equals + 1)), O_RDONLY));
  if (file.get() == *number) {
    if (fcntl(file.Release(), F_SETFD, 0) != 0) return Errno(errno, "fcntl");
    return {};
  }
  return dup2(file.get(), *number) < 0 ? Result<>(Errno(errno, "dup2")) : Result<>();
}

Result<> Run(int argc, char** argv) {
  int i = 0;
  for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
    const bool cgroup = strcmp(argv[i], "--cgroup") == 0;
    if (!cgroup && strcmp(argv[i], "--open") != 0)
      return Error(Code::kInvalidArgument, StrCat("unknown option ", Quote(argv[i])));
    TRY(cgroup ? JoinCgroup(argv[i + 1]) : OpenAs(argv[i + 1]));
  }
  if (i + 1 >= argc) return Error(Code::kInvalidArgument, "no program");
  execvp(argv[i + 1], argv + i + 1);
  return Errno(errno, StrCat("execute ", argv[i + 1]));
}

}  // namespace

int RunIn(int argc, char** argv) {
  Result<> run = Run(argc, argv);
  dprintf(2, "crisp-shim: %s\n", run.error().message().c_str());
  return kFailed;
}

}  // namespace crisp::shim
