// The command lines of OCI runtimes (runc, crun and what behaves like them), and how to read what they say. The only
// place that knows about them. Threading: values and pure functions, except Probe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/runtime.h"
#include "sys/spawn.h"

namespace crisp::runtime {

// What `exec --cgroup` of this runtime can do; how an exec's process tree is kept together depends on it.
enum class ExecCgroupSupport {
  kNone,            // no such option
  kWhole,           // one sub-cgroup in every hierarchy (crun)
  kPerController,   // v1: "freezer:name" moves only that hierarchy (runc)
};

struct HandlerAbilities {
  HandlerFeatures features;
  ExecCgroupSupport exec_cgroup = ExecCgroupSupport::kNone;
};

class OciHandler {
 public:
  explicit OciHandler(HandlerConfig config) : config_(std::move(config)) {}
  const HandlerConfig& config() const { return config_; }

  struct RunFiles {
    std::string bundle, pid_file, log_file, console_socket;
    std::string restore_images = {};  // "": run
  };
  std::vector<std::string> RunArgv(const ContainerId& id, const RunFiles& files) const;
  // "checkpoint", "pause", "resume": no options but those given.
  std::vector<std::string> VerbArgv(const std::string& verb, const ContainerId& id,
                                    const std::vector<std::string>& options = {}) const;
  std::vector<std::string> CheckpointArgv(const ContainerId& id, const CheckpointDirs& dirs) const;
  struct ExecFiles {
    std::string process_file, pid_file, log_file, cgroup;  // cgroup: argument of --cgroup, "" = without
    std::string console_socket;                            // "" = without a terminal
  };
  std::vector<std::string> ExecArgv(const ContainerId& id, const ExecFiles& files) const;
  // kStopped fails where the container has not ended. runc's --force sleeps 100 ms, that of 1.5 also for one that has.
  enum class Deletion { kStopped, kForced };
  std::vector<std::string> DeleteArgv(const ContainerId& id, Deletion deletion) const;
  std::vector<std::string> StateArgv(const ContainerId& id) const;
  // Where runc and crun keep what they know of the container.
  std::string StateDir(const ContainerId& id) const { return config_.root_dir + "/" + id.str(); }
  std::vector<std::string> UpdateArgv(const ContainerId& id) const;  // resources on stdin

  // Asks the program what it can do: `features` and `exec --help`. What it does not say gets the defaults.
  HandlerAbilities Probe(const Ctx& ctx) const;

 private:
  std::vector<std::string> Global(const std::string& log_file) const;
  HandlerConfig config_;
};

// What OCI runtimes, their hooks and the shim get of our environment: PATH. Neither NOTIFY_SOCKET nor a proxy's password.
std::vector<std::string> RuntimeEnvironment();
// argv as a command for sys::Run.
sys::Command ToCommand(std::vector<std::string> argv);

// From the JSON of `<runtime> features`.
HandlerFeatures ParseFeatures(std::string_view json);
// For a runtime without `features`, from what it prints for --version: crun 1.8 (Debian 12's) can mount recursively read-only
// and use user namespaces, which was tried. Everything else: no features. May go when Debian 12 does.
HandlerFeatures FeaturesOfVersion(std::string_view version);
// The last message of level error in a runtime's `--log-format json` log; "" when there is none.
std::string LastErrorOfLog(std::string_view log);
// A runtime's delete or kill that failed because the container is not there (any more).
bool SaysNotThere(std::string_view output);

}  // namespace crisp::runtime
