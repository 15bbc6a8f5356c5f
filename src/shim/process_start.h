// How a container's or an exec's process comes to be: by an OCI runtime that is run, or by the native launcher. One use; the
// owner destroys it after `done`, not before it has called Kill and heard `done` (but at its own end).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "native/launcher.h"
#include "shim/children.h"
#include "shim/loop.h"

namespace crisp::shim {

// What containers and execs need of the shim around them. Outlives them.
struct Surroundings {
  Loop& loop;
  Children& children;
  std::string run_dir;  // with exits/ and tmp/
};

struct NewProcess {
  pid_t pid = 0;           // a child of ours, not reaped, so the number is its
  sys::UniqueFd terminal;  // the master, where the native launcher has made one
};

class ProcessStart {
 public:
  using Done = std::function<void(Result<NewProcess>)>;  // called once
  virtual ~ProcessStart() = default;
  virtual void Kill() = 0;  // `done` comes all the same
};

// A runtime at work: runs it, and when it has succeeded gets hold of the process that it made.
class RuntimeRun final : public ProcessStart {
 public:
  RuntimeRun(Surroundings& around, std::string pid_file, Done done)
      : around_(around), pid_file_(std::move(pid_file)), done_(std::move(done)) {}
  RuntimeRun(const RuntimeRun&) = delete;
  RuntimeRun& operator=(const RuntimeRun&) = delete;
  ~RuntimeRun() override;

  Result<> Start(const std::vector<std::string>& argv, const std::map<int, sys::BorrowedFd>& fds);
  void Kill() override;

 private:
  void OnExit(sys::ExitStatus status);
  void Finish(Result<NewProcess> result);

  Surroundings& around_;
  std::string pid_file_;
  Done done_;
  std::optional<sys::Process> process_;
  pid_t adopting_ = 0;
  Loop::Id timer_ = 0;
};

// The native launcher at work.
class NativeStart final : public ProcessStart {
 public:
  explicit NativeStart(Surroundings& around) : around_(around) {}
  NativeStart(const NativeStart&) = delete;
  NativeStart& operator=(const NativeStart&) = delete;
  ~NativeStart() override;

  // `launch`: a file with the encoded Launch; with `container`, a pidfd, an ExecLaunch into that.
  Result<> Start(sys::BorrowedFd launch, std::optional<sys::BorrowedFd> container, const native::LaunchOptions& options,
                 Done done);
  // The same in two steps, of a Launch that needs no helper. After the first the process waits, for as long as it
  // takes, with no `done` to hear: `ended` is called, from Children::Reap, if it ends before the second.
  Result<> Prepare(sys::BorrowedFd launch, native::LaunchOptions options, std::function<void()> ended);
  Result<> Go(Done done);  // an error: the program will not run, and `done` is not called
  bool ended() const { return ended_; }  // between the two
  void Kill() override;

 private:
  Result<> Watch(Done done);
  void OnProgress();
  void Finish(Result<NewProcess> result);

  Surroundings& around_;
  Done done_;
  std::optional<native::Launching> launching_;
  sys::UniqueFd go_;    // one byte, while the process waits for it
  bool ended_ = false;  // while it waited
  bool held_ = false;   // our hold on Children
  Loop::Id watch_ = 0;
};

}  // namespace crisp::shim
