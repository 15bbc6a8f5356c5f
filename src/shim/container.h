// One container: its log, its stdio, the OCI runtime that starts it, its process and its end.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shim/attachment.h"
#include "shim/children.h"
#include "shim/connection.h"
#include "shim/log_file.h"
#include "shim/loop.h"
#include "shim/oom_watch.h"
#include "shim/prepared_start.h"
#include "shim/process_start.h"
#include "shim/stdio.h"

namespace crisp::shim {

class Container final : private AttachTarget {
 public:
  struct Callbacks {
    std::function<void(Container&)> on_start_failed;  // answered already
    std::function<void(Container&)> on_exited;        // the exit file is written
  };
  Container(Surroundings& around, shimapi::StartContainer request, Callbacks callbacks);
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  ~Container();

  // Starts the runtime, or the launch in `fds`; `asker` is answered when it is done. An error: nothing was started, and
  // nobody was answered.
  // `prepared`: may be null; what has become of it goes on then.
  Result<> Start(Asker asker, std::vector<sys::UniqueFd> fds, std::unique_ptr<PreparedStart> prepared);
  // Kills the runtime, or the container where the runtime is done nevertheless.
  void CancelStart();
  bool IsStartOf(const Connection* connection, uint32_t seq) const;
  Result<> Signal(int signal);
  Result<> ReopenLog();
  // `client` gets the output from now on. `fds`: of what it wants, in order.
  Result<shimapi::Attached> Attach(Attachment& client, const shimapi::Attach& wants, std::vector<sys::UniqueFd> fds);
  Result<> Resize(uint16_t width, uint16_t height);

  shimapi::ContainerState state() const;
  const std::string& id() const { return request_.id; }
  sys::BorrowedFd pidfd() const { return pidfd_; }  // while running
  bool alive() const { return state_.phase != shimapi::ContainerState::kExited; }
  bool running() const { return state_.phase == shimapi::ContainerState::kRunning; }

 private:
  void TakeOurs(Stdio& stdio);
  Result<std::unique_ptr<ProcessStart>> StartProcess(const std::vector<sys::UniqueFd>& fds);
  std::unique_ptr<ProcessStart> GoOn(PreparedStart& prepared);  // null: it has ended
  void OnStarted(Result<NewProcess> process);
  Result<> TakeOver(NewProcess process);
  Result<> TakeConsole();
  Result<> TakeTerminal(sys::UniqueFd master);
  std::string OutputTail();
  void OnExit(sys::ExitStatus status);
  void OnStreamEnd();
  void Finish();
  void EndClients();
  // Input of clients: one piece at a time, so that clients mix but memory stays bounded.
  void TakeInput(std::string_view bytes) override;
  void OnInputEnd() override;
  void OnDetach(Attachment& client) override { std::erase(clients_, &client); }
  bool TakesInput() const override { return input_.empty(); }
  void OnHeld(codec::LogStream stream) override { PumpOf(stream).Hold(); }
  void OnReleased(codec::LogStream stream) override { PumpOf(stream).Release(); }
  void FlushInput();
  void CloseInput();
  LogPump& PumpOf(codec::LogStream stream) { return stream == codec::LogStream::kStdout ? out_ : err_; }
  bool streams_open() const { return out_.open() || err_.open(); }

  Surroundings& around_;
  shimapi::StartContainer request_;
  Callbacks callbacks_;
  shimapi::ContainerState state_;
  LogFile log_;
  LogPump out_, err_;
  OomWatch oom_;  // from TakeOver on
  std::vector<Attachment*> clients_;
  std::string input_;                  // of clients, not written to stdin_ yet
  Loop::Id input_watch_ = 0;           // while there is some
  bool input_ended_ = false;           // close stdin_ once it is written
  sys::UniqueFd stdin_;                // write end; of a terminal its master
  sys::UniqueFd out_pipe_, err_pipe_;  // until the pumps take them
  sys::UniqueFd console_;              // listening, while the runtime works
  sys::UniqueFd pidfd_;
  Asker starter_;
  std::unique_ptr<ProcessStart> start_;  // while it is under way
  bool cancelled_ = false;
  bool exited_ = false;
  Loop::Id drain_timer_ = 0;
};

}  // namespace crisp::shim
