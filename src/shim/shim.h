// The shim of one pod: takes crispd's messages, keeps containers and execs, and ends when it is told to or when nobody
// can want it any more. Single-threaded, no locks.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "shim/attachment.h"
#include "shim/connection.h"
#include "shim/container.h"
#include "shim/exec.h"
#include "shim/namespaces.h"

namespace crisp::shim {

class Shim {
 public:
  Shim(Loop& loop, std::string run_dir, sys::UniqueFd listener);
  // Runs until the shim's work is over.
  Result<> Run();

 private:
  using ConnectionPtr = std::shared_ptr<Connection>;
  void Accept();
  void OnReadable(const ConnectionPtr& connection);
  void Drop(const ConnectionPtr& connection);
  void OnSignal();

  // Dispatch calls Handle of the message's type; an error it returns is the answer.
  void Dispatch(const ConnectionPtr& connection, std::string_view bytes, std::vector<sys::UniqueFd> fds);
  template <class Message>
  Result<> Call(const Asker& asker, std::string_view bytes, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::Hello& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::SetupPod& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::StartContainer& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::PrepareContainer& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::SignalContainer& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::ReopenLog& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::ForgetContainer& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::StartExec& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::KillExec& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::Cancel& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::Attach& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::Detach& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::ResizeTerminal& message, std::vector<sys::UniqueFd>& fds);
  Result<> Handle(const Asker& asker, const shimapi::Shutdown& message, std::vector<sys::UniqueFd>& fds);

  shimapi::HelloReply Report() const;
  void OnContainerExited(Container& container);
  std::unique_ptr<PreparedStart> TakePrepared(const Asker& asker, const std::string& id);
  void DropContainer(const std::string& id);
  void DropPrepared(const std::string& id);
  void TellForgotten(const std::string& id);
  void DropExec(const std::pair<uint64_t, uint64_t>& key);
  void BeforeSleep();
  bool AnyAlive() const;
  bool Reachable() const;
  void ContinueShutdown();

  Loop& loop_;
  Children children_;
  Surroundings around_;
  sys::UniqueFd listener_;
  sys::UniqueFd signals_;
  Namespaces namespaces_;
  std::map<uint64_t, ConnectionPtr> connections_;  // by Connection::id
  std::map<std::string, std::unique_ptr<Container>> containers_;
  struct Prepared {
    uint64_t connection;
    std::unique_ptr<PreparedStart> start;
  };
  std::map<std::string, Prepared> prepared_;  // by the container's id
  // By connection and crispd's number.
  std::map<std::pair<uint64_t, uint64_t>, std::unique_ptr<Exec>> execs_;
  std::map<std::pair<uint64_t, uint64_t>, std::unique_ptr<Attachment>> attachments_;  // likewise
  // Cgroups of execs that left processes behind, with their container: removed once those have ended.
  std::vector<std::pair<std::string, ExecCgroup>> leftovers_;
  uint64_t last_connection_ = 0;
  std::map<std::string, std::vector<Asker>> forgotten_;  // by id: dropped once it has ended; who is told then
  std::vector<Asker> shutdown_askers_;
  bool shutting_down_ = false;
  bool terminated_ = false;  // SIGTERM came: end when no container is left
  Loop::Id shutdown_timer_ = 0;
  Loop::Id orphan_timer_ = 0;
};

}  // namespace crisp::shim
