// crisp-shim POD_ID RUN_DIR
//
// Started by crispd with descriptor 3: the socket bound at RUN_DIR/shim.sock, and stderr: RUN_DIR/shim.log.
// With --fork-server it makes those by forking itself (fork_server.h), with --hold-namespaces it is the helper of
// sys/userns.h instead, with --run-in what run_in.h says.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "shim/fork_server.h"
#include "shim/run_in.h"
#include "shim/shim.h"
#include "sys/file.h"
#include "sys/userns.h"

namespace {

constexpr int kListener = 3;

crisp::Result<> MakeDirectories(const std::string& run_dir) {
  using namespace crisp;
  TRY(sys::MakeDir(run_dir + "/exits", 0700));
  TRY(sys::MakeDir(run_dir + "/tmp", 0700));
  sys::UniqueFd tmp = TRY(sys::Open(run_dir + "/tmp", O_PATH | O_DIRECTORY));
  if (tmp.get() == shimapi::kShimTmpDescriptor) return (void)tmp.Release(), Result<>();
  if (dup3(tmp.get(), shimapi::kShimTmpDescriptor, O_CLOEXEC) < 0) return Errno(errno, "dup3");
  return {};
}

crisp::Result<> Main(const std::string& run_dir) {
  using namespace crisp;
  sys::UniqueFd listener(kListener);
  if (fcntl(kListener, F_SETFD, FD_CLOEXEC) != 0) return Errno(errno, "descriptor 3");
  fcntl(2, F_SETFD, FD_CLOEXEC);
  // listen(2) again makes us the one whom SO_PEERCRED names to those who connect from now on.
  if (listen(kListener, 16) != 0) return Errno(errno, "listen");
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return Errno(errno, "become a subreaper");
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_NAME, "crisp-shim");  // we were started by a descriptor's number
  if (chdir("/") != 0) return Errno(errno, "chdir /");
  umask(0022);
  TRY(MakeDirectories(run_dir));  // before anything else is opened: it takes a fixed descriptor
  std::unique_ptr<shim::Loop> loop = TRY(shim::Loop::Make());
  shim::Shim shim(*loop, run_dir, std::move(listener));
  return shim.Run();
}

int RunShim(const std::string& run_dir) {
  crisp::Result<> run = Main(run_dir);
  if (!run) crisp::LogError("the shim ends", {{"error", run.error()}});
  return run ? 0 : 1;
}

// As crispd would have started it.
int RunForked(crisp::shim::Forked forked) {
  if (setsid() < 0 || dup2(forked.listener.get(), kListener) < 0 || dup2(forked.log.get(), 2) < 0) return 1;
  forked.listener.Reset();
  forked.log.Reset();
  return RunShim(forked.run_dir);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    constexpr char kVersion[] = "crisp-shim " CRISP_VERSION "\n";
    return write(1, kVersion, sizeof kVersion - 1) > 0 ? 0 : 1;
  }
  if (argc == 3 && strcmp(argv[1], crisp::shimapi::kForkServerOption) == 0) {
    std::optional<crisp::shim::Forked> forked = crisp::shim::ServeForks(argc, argv);
    return forked ? RunForked(*std::move(forked)) : 0;
  }
  if (argc == 3 && strcmp(argv[1], "--hold-namespaces") == 0) return crisp::sys::HoldNamespaces(argv[2]);
  if (argc > 2 && strcmp(argv[1], "--run-in") == 0) return crisp::shim::RunIn(argc - 2, argv + 2);
  if (argc != 3) {
    constexpr char kUsage[] = "usage: crisp-shim POD_ID RUN_DIR (started by crispd, with its socket as descriptor 3)\n";
    return write(2, kUsage, sizeof kUsage - 1) > 0 ? 2 : 1;
  }
  return RunShim(argv[2]);
}
