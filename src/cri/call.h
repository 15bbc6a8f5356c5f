// Call: one CRI call from its arrival to its reply: where it runs, its Ctx, its log record, its status.
// Unary() adapts a handler `Result<Resp>(const Ctx&, const Req&)` to gRPC's callback API; services consist of such
// handlers only and know nothing of reactors.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "base/afterwork.h"
#include "base/context.h"
#include "base/pool.h"
#include "base/synchronized.h"

namespace crisp::cri {

// Which threads a call may hold. kMemory answers from memory on gRPC's own thread and must never block.
// What waits for somebody else has threads of its own, so that it keeps nothing waiting but its like: sandboxes wait for
// network plugins, stops for containers to end within their grace.
enum class Work { kMemory, kQuick, kVerb, kSandbox, kStop, kExec, kPull };

struct Method {
  const char* name;
  Work work;
  bool chatty;  // the kubelet polls it: logged at debug level only
};

// What is told about a finished call, to metrics.
struct CallRecord {
  const char* method;
  int code;  // gRPC status code
  std::chrono::nanoseconds took;
  const Stages& stages;
};

class Call;

// What all calls of the daemon share. Outlives the gRPC server. Threading: any thread.
class Front {
 public:
  struct Options {
    std::function<void(const CallRecord&)> observer;  // called after each reply, on the call's thread
    std::chrono::milliseconds slow_after{5'000};
    int verbs_max = 64, sandboxes_max = 256, stops_max = 512, execs_max = 256, pulls_max = 32;
  };
  explicit Front(Options options);
  ~Front();

  // Logs each call that has been running longer than `slow_after`, with its stage, once per doubling of its age.
  // To be called about once a second. Returns how many are running in the pools.
  size_t ReportSlowCalls();

  // From now on each new call is answered UNAVAILABLE; returns when those that work in the pools have ended, or after
  // `bound`. For the end of the program: whoever asks is told at once to come back later, and nothing is cut off early.
  void Drain(std::chrono::milliseconds bound);

 private:
  friend class Call;
  Pool* PoolOf(Work work);
  // Null: we are stopping.
  std::optional<std::list<Call*>::iterator> Enter(Call* call);
  void Leave(std::list<Call*>::iterator place);
  void BeginAfterwork();
  void EndAfterwork();
  bool stopping() const { return running_.Lock()->stopping; }

  const Options options_;
  struct Running {
    std::list<Call*> calls;  // from their arrival to their reply; a call leaves before it is destroyed
    bool stopping = false;
    int afterworks = 0;  // of calls that have left
    bool quiet() const { return calls.empty() && afterworks == 0; }
  };
  Synchronized<Running> running_;
  std::condition_variable all_left_;
  std::atomic<uint64_t> last_id_{0};
  Pool quick_, verbs_, sandboxes_, stops_, execs_, pulls_;
};

// The bookkeeping of one call, without the reactor that talks to gRPC.
class Call {
 public:
  Call(Front& front, const Method& method, std::string object, std::chrono::system_clock::time_point deadline);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  virtual ~Call() = default;

  // Runs `handler` where the method's work belongs, then logs and sends its outcome.
  void Start(std::function<Result<>(const Ctx&)> handler);

 protected:
  // For a call that answers more than once (list_streams.h), in place of Start: runs `work` where the method's work
  // belongs, as often as it is called, and ends with End. False: too much waits there already, or we are stopping.
  // Drain does not wait for such a call, which may be as slow as its client.
  bool Post(std::function<void(const Ctx&)> work);
  // Logs and sends the outcome; nothing may follow.
  void End(Result<> outcome) { Reply(std::move(outcome)); }

  // Ends the call towards gRPC, which may delete it before this returns.
  virtual void Send(const grpc::Status& status) = 0;
  void Cancel() { stop_.request_stop(); }

 private:
  friend class Front;
  void Run(const std::function<Result<>(const Ctx&)>& handler);
  void LeaveAndReply(Result<> outcome);
  void Reply(Result<> outcome);
  void LogReply(const Result<>& outcome, std::chrono::nanoseconds took) const;

  Front& front_;
  const Method& method_;
  const std::string object_;  // ids and names for the log; never a body
  const Clock::time_point began_ = Clock::now();
  std::chrono::milliseconds report_after_;
  std::stop_source stop_;
  const std::shared_ptr<Stages> stages_ = std::make_shared<Stages>("queued");
  Ctx ctx_;
  std::list<Call*>::iterator place_;  // among the running ones
};

// Belongs to itself: OnDone, gRPC's last word, deletes it.
class UnaryCall final : public grpc::ServerUnaryReactor, public Call {
 public:
  using Call::Call;

 private:
  void Send(const grpc::Status& status) override { Finish(status); }
  void OnCancel() override { Cancel(); }
  void OnDone() override { delete this; }
  // gRPC's own word for reactions that need no further thread; else each call's end goes to one of its executor's.
  bool InternalInlineable() override { return true; }
};

// The object a request is about, for the log.
template <class Req>
std::string ObjectOf(const Req& request) {
  if constexpr (requires { request.container_id(); }) {
    return request.container_id();
  } else if constexpr (requires {
                         request.config().metadata();
                         request.pod_sandbox_id();
                       }) {
    return request.pod_sandbox_id() + "/" + request.config().metadata().name();
  } else if constexpr (requires { request.config().metadata().namespace_(); }) {
    return request.config().metadata().namespace_() + "/" + request.config().metadata().name();
  } else if constexpr (requires { request.pod_sandbox_id(); }) {
    return request.pod_sandbox_id();
  } else if constexpr (requires { request.image().image(); }) {
    return request.image().image();
  } else {
    return {};
  }
}
// `object` fit for the log: short, and without what might be a secret in an image reference (user:password@host,
// ?query).
std::string LogName(std::string object);

template <class Req, class Resp, class Handler>
grpc::ServerUnaryReactor* Unary(Front& front, const Method& method, grpc::CallbackServerContext* context,
                                const Req* request, Resp* response, Handler handler) {
  auto* call = new UnaryCall(front, method, LogName(ObjectOf(*request)), context->deadline());
  call->Start([request, response, handler = std::move(handler)](const Ctx& ctx) -> Result<> {
    *response = TRY(handler(ctx, *request));
    return {};
  });
  return call;
}

}  // namespace crisp::cri
