// crispd's end of the sockets to the shims: ShimLink is one shim, ShimHub the thread that reads them all.
//
// Threading: any thread may call; replies and events come in on the hub's thread. Lock order: a link's lock is a leaf.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/context.h"
#include "base/ids.h"
#include "shimapi/message.h"
#include "sys/spawn.h"

namespace crisp::runtime {

// The end of one exec, as the thread that waits for it sees it.
struct ExecWait {
  sys::UniqueFd event;  // eventfd, readable once `over`
  std::mutex lock;
  bool started = false;
  bool over = false;  // ended, not started (then `failure`), or the shim is gone (then `lost`)
  bool lost = false;
  std::optional<shimapi::ErrorReply> failure;
  shimapi::ExecExited exit;
};

// The end of a stream session, told once to whoever asked for it.
class EndNotice {
 public:
  void Tell(Result<int> end);
  void OnTold(std::function<void(Result<int>)> callback);  // at once if it was told already
  void Drop();                                             // afterwards the callback is not running and never will
  bool told() const;

 private:
  mutable std::mutex lock_;  // held while the callback runs
  std::optional<Result<int>> end_;
  std::function<void(Result<int>)> callback_;
  bool called_ = false;
};

class ShimLink {
 public:
  using ContainerExited = std::function<void(const PodId&, const shimapi::ContainerState&)>;

  // `pidfd` is of the shim's process.
  ShimLink(PodId pod, std::string run_dir, sys::UniqueFd socket, pid_t pid, sys::UniqueFd pidfd, ContainerExited on_exited);

  const PodId& pod() const { return pod_; }
  const std::string& run_dir() const { return run_dir_; }
  pid_t pid() const { return pid_; }
  sys::BorrowedFd pidfd() const { return pidfd_; }
  sys::BorrowedFd socket() const { return socket_; }

  // Sends and waits for the answer: until ctx ends, but at most `timeout`. An ErrorReply comes back as its error, with
  // `*failure` filled where the caller gave one. kUnavailable: the shim is gone.
  template <class Reply, class Request>
  Result<Reply> Call(const Ctx& ctx, const Request& request, std::chrono::milliseconds timeout,
                     const std::vector<sys::BorrowedFd>& fds = {}, shimapi::ErrorReply* failure = nullptr) {
    std::string bytes = TRY(shimapi::Encode(0, request));
    return Transact<Reply>(ctx.WithTimeout(timeout), std::move(bytes), fds, failure, {});
  }
  // The same for StartContainer and StartExec: at a time-out the shim is told to kill the runtime, and its answer is
  // waited for, so that nothing is being started any more when this returns (unless the shim itself hangs).
  // `container`: whose pid the answer tells; "" for an exec.
  template <class Request>
  Result<shimapi::Started> Start(const Ctx& ctx, const Request& request, std::chrono::milliseconds timeout,
                                 const std::vector<sys::BorrowedFd>& fds, shimapi::ErrorReply* failure,
                                 std::string container) {
    std::string bytes = TRY(shimapi::Encode(0, request));
    return Transact<shimapi::Started>(ctx.WithTimeout(timeout), std::move(bytes), fds, failure,
                                      Mode{.cancel = true, .container = std::move(container)});
  }

  // Sends without waiting for the start: all that comes of it, comes to the ExecWait of its number.
  Result<> StartExec(const Ctx& ctx, const shimapi::StartExec& request, const std::vector<sys::BorrowedFd>& fds);
  static Error ToError(const shimapi::ErrorReply& reply);

  // Number and waiting place for a new exec; before StartExec is sent, since it may end before the answer is read.
  Result<std::pair<uint64_t, std::shared_ptr<ExecWait>>> NewExec();
  void ForgetExec(uint64_t exec);
  // The same for an exec or an attach that is told of by `notice`: numbers are unique among all of them.
  Result<uint64_t> NewSession(std::shared_ptr<EndNotice> notice);
  void ForgetSession(uint64_t number);

  // Sends without waiting for the answer, which nobody hears then: what a destructor has to say.
  template <class Request>
  void Post(const Request& request, const std::vector<sys::BorrowedFd>& fds = {}) {
    if (Result<std::string> bytes = shimapi::Encode(0, request)) PostBytes(*std::move(bytes), fds);
  }

  // Pids of containers' inits, kept by the hub's thread from Started, HelloReply and ContainerExited in their order. Only
  // the shim reaps them.
  pid_t ContainerPid(const std::string& id) const;
  std::vector<pid_t> ContainerPids() const;

  // The end that comes is wanted: on_shim_lost is not called for it.
  void SetStopping();
  bool stopping() const;

  // The process has ended: reaps it, if it is our child and was not reaped before (else its init system does).
  void Reap() const;

  // For the hub.
  enum class ReadResult { kMore, kEmpty, kClosed };
  ReadResult ReadOne(char* buffer, size_t size);
  void Close();  // every waiting call fails
  bool closed() const;

 private:
  struct Mode {
    bool cancel = false;
    std::string container;
  };
  struct Pending {
    std::string container;
    uint64_t exec = 0;  // not 0: nobody waits here, but in execs_
    bool done = false;
    std::string bytes;
  };
  template <class Reply>
  Result<Reply> Transact(const Ctx& ctx, std::string bytes, const std::vector<sys::BorrowedFd>& fds,
                         shimapi::ErrorReply* failure, const Mode& mode) {
    std::string answer = TRY(Exchange(ctx, std::move(bytes), fds, mode));
    shimapi::Header header = TRY(shimapi::DecodeHeader(answer));
    if (header.type == shimapi::Type::kError) {
      shimapi::ErrorReply reply = TRY(shimapi::Decode<shimapi::ErrorReply>(answer));
      Error error = ToError(reply);
      if (failure != nullptr) *failure = std::move(reply);
      return error;
    }
    return shimapi::Decode<Reply>(answer);
  }
  Result<std::string> Exchange(const Ctx& ctx, std::string bytes, const std::vector<sys::BorrowedFd>& fds, const Mode& mode);
  Result<> Send(const Ctx& ctx, std::string_view bytes, const std::vector<sys::BorrowedFd>& fds);
  Result<> Await(const Ctx& ctx, Pending& pending);
  void PostBytes(std::string bytes, const std::vector<sys::BorrowedFd>& fds);
  uint32_t NextSeq();  // lock_ is held
  void TellSession(uint64_t number, Result<int> end);
  void OnAnswer(const shimapi::Header& header, std::string_view bytes);
  void OnExecAnswer(uint64_t exec, shimapi::Type type, std::string_view bytes);  // lock_ is held
  void OnEvent(shimapi::Type type, std::string_view bytes);

  const PodId pod_;
  const std::string run_dir_;
  const sys::UniqueFd socket_;
  const pid_t pid_;
  const sys::UniqueFd pidfd_;
  const ContainerExited on_exited_;

  mutable std::mutex lock_;  // guards all below
  std::condition_variable_any answered_;
  std::map<uint32_t, std::shared_ptr<Pending>> pending_;
  std::map<uint64_t, std::shared_ptr<ExecWait>> execs_;
  std::map<uint64_t, std::shared_ptr<EndNotice>> sessions_;
  std::map<std::string, pid_t> pids_;
  uint32_t last_seq_ = 0;
  uint64_t last_exec_ = 0;
  bool closed_ = false;
  bool stopping_ = false;
};

class ShimHub {
 public:
  using Callback = std::function<void(const std::shared_ptr<ShimLink>&)>;
  // `on_gone`: the shim's process has ended (and was reaped, if it was our child); `on_closed`: its connection has, and
  // perhaps its process. On the hub's thread.
  static Result<std::unique_ptr<ShimHub>> Make(Callback on_gone, Callback on_closed);
  ~ShimHub();

  Result<> Add(std::shared_ptr<ShimLink> link);
  // Stops watching, e.g. after a failed start; also done by itself when the shim ends.
  void Remove(const ShimLink& link);

 private:
  struct Watched {
    std::shared_ptr<ShimLink> link;
    bool socket_open = true;
  };
  ShimHub(sys::UniqueFd epoll, sys::UniqueFd wake, Callback on_gone, Callback on_closed)
      : epoll_(std::move(epoll)), wake_(std::move(wake)), on_gone_(std::move(on_gone)), on_closed_(std::move(on_closed)) {}
  void Loop();
  void OnSocket(uint64_t id);
  void OnProcessEnd(uint64_t id);

  sys::UniqueFd epoll_, wake_;
  Callback on_gone_, on_closed_;
  std::mutex lock_;  // guards all below
  std::map<uint64_t, Watched> watched_;
  uint64_t last_id_ = 0;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace crisp::runtime
