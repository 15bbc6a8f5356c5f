// Checkpoint, pause and resume: command lines of the OCI runtime or of CRIU, run by crispd itself, since nothing of them is a
// child that somebody must keep. CRIU (https://criu.org) does the work; it is found in PATH, and run by us where the
// handler is native.
#include <linux/prctl.h>
#include <sys/prctl.h>

#include <cerrno>

#include "base/strings.h"
#include "runtime/native_handler.h"
#include "runtime/runtime_impl.h"
#include "sys/file.h"

namespace crisp::runtime {

using std::chrono::seconds;

namespace {

constexpr seconds kProbeTime{20};
constexpr seconds kPauseTime{30};
constexpr size_t kSaidBytesMax = 512;

// PR_SET_MM_MAP_SIZE (prctl(2)) is there exactly when the kernel was built with CONFIG_CHECKPOINT_RESTORE; it needs no
// privilege and changes nothing.
bool KernelCanCheckpoint() {
  unsigned int size = 0;
  return prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0;
}

Error Missing(std::string_view what) {
  return Error(Code::kUnimplemented, StrCat("this node cannot checkpoint or restore containers: ", what));
}

std::string LastLine(const sys::RunResult& run) {
  std::string text = run.out + run.err;
  std::string_view all = Trim(text);
  size_t line = all.rfind('\n');
  return std::string(Trim(line == all.npos ? all : all.substr(line + 1)));
}

}  // namespace

Result<> RuntimeImpl::CanCheckpoint(const Ctx& ctx, const std::string& name) {
  Handler* handler = TRY(FindHandler(name));
  if (!KernelCanCheckpoint()) return Missing("its kernel was built without CONFIG_CHECKPOINT_RESTORE");
  sys::RunOptions options;
  options.timeout = kProbeTime;
  if (!handler->native) {
    // A crun without CRIU (Debian 12's) does not know the command.
    Result<sys::RunResult> help =
        sys::Run(ctx, ToCommand({handler->oci.config().binary, "checkpoint", "--help"}), options);
    if (!help) return std::move(help).error().Context("ask the OCI runtime whether it can checkpoint");
    if (help->status.code != 0 || (help->out + help->err).find("--image-path") == std::string::npos) {
      return Missing(StrCat("its OCI runtime ", name, " has no checkpoint command"));
    }
  }
  Result<sys::RunResult> criu = sys::Run(ctx, ToCommand({"criu", "check"}), options);
  if (!criu && criu.error().code() == Code::kNotFound) return Missing("CRIU is not installed");
  if (!criu) return std::move(criu).error().Context("criu check");
  if (criu->status.code != 0) return Missing(StrCat("criu check says ", Quote(LastLine(*criu), kSaidBytesMax)));
  return {};
}

Result<> RuntimeImpl::SetPaused(const Ctx& ctx, const ContainerId& id, const std::string& name, bool paused) {
  Handler* handler = TRY(FindHandler(name));
  if (handler->native) return Error(Code::kInternal, "the cgroup of a native container is the caller's");
  const char* verb = paused ? "pause" : "resume";
  ctx.Stage(paused ? "pause the container" : "resume the container");
  sys::RunOptions options;
  options.timeout = kPauseTime;
  sys::RunResult run = TRY(sys::Run(ctx, ToCommand(handler->oci.VerbArgv(verb, id)), options));
  if (run.status.code == 0) return {};
  // It may be just so already; the runtimes say that in words of their own, the state in one.
  sys::RunResult state = TRY(sys::Run(ctx, ToCommand(handler->oci.StateArgv(id)), options));
  const bool is_paused = state.out.find("\"paused\"") != std::string::npos;
  if (state.status.code == 0 && is_paused == paused) return {};
  return Error(SaysNotThere(run.err + run.out) ? Code::kNotFound : Code::kInternal,
               StrCat(name, " ", verb, " ", id.Short(), ": ", Quote(Trim(run.err), kSaidBytesMax)));
}

Result<> RuntimeImpl::PauseContainer(const Ctx& ctx, const ContainerId& id, const std::string& name) {
  return SetPaused(ctx, id, name, true);
}

Result<> RuntimeImpl::ResumeContainer(const Ctx& ctx, const ContainerId& id, const std::string& name) {
  return SetPaused(ctx, id, name, false);
}

Result<> RuntimeImpl::CheckpointContainer(const Ctx& ctx, const CheckpointSpec& spec) {
  Handler* handler = TRY(FindHandler(spec.handler));
  const std::string criu = spec.handler + (handler->native ? ": criu dump" : " checkpoint");
  std::vector<std::string> argv =
      handler->native ? TRY(NativeDumpArgv(spec)) : handler->oci.CheckpointArgv(spec.id, spec.dirs);
  ctx.Stage("dump the container's processes");
  sys::RunOptions options;
  options.timeout = std::chrono::hours(1);  // ctx is the bound
  sys::RunResult run = TRY(sys::Run(ctx, ToCommand(std::move(argv)), options));
  if (run.status.code == 0) return {};
  return Error(SaysNotThere(run.err + run.out) ? Code::kNotFound : Code::kInternal,
               StrCat(criu, " ", spec.id.Short(), ": ", Quote(Trim(run.err), kSaidBytesMax)));
}

}  // namespace crisp::runtime
