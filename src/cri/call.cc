#include "cri/call.h"

#include <algorithm>
#include <thread>

#include "base/log.h"

namespace crisp::cri {
namespace {

Clock::time_point ToSteady(std::chrono::system_clock::time_point deadline) {
  using std::chrono::system_clock;
  system_clock::time_point now = system_clock::now();
  if (deadline - now > std::chrono::hours(24 * 365)) return Clock::time_point::max();
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(deadline - now);
}

grpc::Status ToStatus(const Error& error) { return {static_cast<grpc::StatusCode>(error.code()), error.message()}; }

std::chrono::milliseconds::rep Millis(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

Front::Front(Options options)
    : options_(std::move(options)),
      quick_({.name = "cri-quick", .threads_max = 8}),
      verbs_({.name = "cri-verb", .threads_max = options_.verbs_max}),
      sandboxes_({.name = "cri-sandbox", .threads_max = options_.sandboxes_max}),
      stops_({.name = "cri-stop", .threads_max = options_.stops_max}),
      execs_({.name = "cri-exec", .threads_max = options_.execs_max}),
      pulls_({.name = "cri-pull", .threads_max = options_.pulls_max}) {}

Front::~Front() = default;

Pool* Front::PoolOf(Work work) {
  switch (work) {
    case Work::kMemory: return nullptr;
    case Work::kQuick: return &quick_;
    case Work::kVerb: return &verbs_;
    case Work::kSandbox: return &sandboxes_;
    case Work::kStop: return &stops_;
    case Work::kExec: return &execs_;
    case Work::kPull: return &pulls_;
  }
  return nullptr;
}

std::optional<std::list<Call*>::iterator> Front::Enter(Call* call) {
  auto running = running_.Lock();
  if (running->stopping) return std::nullopt;
  return running->calls.insert(running->calls.end(), call);
}

void Front::Leave(std::list<Call*>::iterator place) {
  auto running = running_.Lock();
  running->calls.erase(place);
  if (running->quiet()) all_left_.notify_all();
}

void Front::BeginAfterwork() { ++running_.Lock()->afterworks; }

void Front::EndAfterwork() {
  auto running = running_.Lock();
  --running->afterworks;
  if (running->quiet()) all_left_.notify_all();
}

void Front::Drain(std::chrono::milliseconds bound) {
  auto running = running_.Lock();
  running->stopping = true;
  running.WaitUntil(all_left_, Clock::now() + bound, [&] { return running->quiet(); });
}

size_t Front::ReportSlowCalls() {
  auto running = running_.Lock();
  for (Call* call : running->calls) {
    Clock::duration age = Clock::now() - call->began_;
    if (age < call->report_after_) continue;
    call->report_after_ = std::chrono::duration_cast<std::chrono::milliseconds>(age) * 2;
    LogWarning("slow call goes on", {{"method", call->method_.name},
                                     {"object", call->object_},
                                     {"request", call->ctx_.request_id()},
                                     {"stage", call->stages_->Current()},
                                     {"running_ms", Millis(age)}});
  }
  return running->calls.size();
}

Call::Call(Front& front, const Method& method, std::string object, std::chrono::system_clock::time_point deadline)
    : front_(front),
      method_(method),
      object_(std::move(object)),
      report_after_(front.options_.slow_after),
      ctx_(ToSteady(deadline), stop_.get_token(), StrCat("r", ++front.last_id_)) {
  ctx_.TrackStages(stages_);
}

void Call::Start(std::function<Result<>(const Ctx&)> handler) {
  Pool* pool = front_.PoolOf(method_.work);
  if (pool == nullptr) return Reply(handler(ctx_));
  std::optional<std::list<Call*>::iterator> place = front_.Enter(this);
  if (!place) return Reply(Error(Code::kUnavailable, "crispd is stopping"));
  place_ = *place;
  if (!pool->Submit([this, handler = std::move(handler)] { Run(handler); })) {
    LeaveAndReply(Error(Code::kResourceExhausted, StrCat("too many ", method_.name, " calls at once")));
  }
}

bool Call::Post(std::function<void(const Ctx&)> work) {
  if (front_.stopping()) return false;
  Pool* pool = front_.PoolOf(method_.work);
  if (pool != nullptr) return pool->Submit([this, work = std::move(work)] { work(ctx_); });
  work(ctx_);
  return true;
}

void Call::Run(const std::function<Result<>(const Ctx&)>& handler) {
  // A call that waited for a thread longer than its caller did.
  if (Result<> go_on = ctx_.Check(); !go_on) return LeaveAndReply(std::move(go_on));
  ctx_.Stage("begun");
  auto afterwork = std::make_shared<Afterwork>();
  ctx_.CollectAfterwork(afterwork);
  Result<> outcome = handler(ctx_);
  if (afterwork->empty()) return LeaveAndReply(std::move(outcome));
  Front& front = front_;
  front.BeginAfterwork();
  LeaveAndReply(std::move(outcome));  // and we may be deleted
  // The kernel may have put whom the answer wakes behind us on this processor, though others are idle.
  std::this_thread::yield();
  afterwork->Run();
  front.EndAfterwork();
}

void Call::LeaveAndReply(Result<> outcome) {
  front_.Leave(place_);
  Reply(std::move(outcome));
}

void Call::Reply(Result<> outcome) {
  std::chrono::nanoseconds took = Clock::now() - began_;
  LogReply(outcome, took);
  int code = outcome ? 0 : static_cast<int>(outcome.error().code());
  if (front_.options_.observer) front_.options_.observer({method_.name, code, took, *stages_});
  // Last: we may be deleted before Send returns.
  Send(outcome ? grpc::Status::OK : ToStatus(outcome.error()));
}

void Call::LogReply(const Result<>& outcome, std::chrono::nanoseconds took) const {
  if (!outcome) {
    // Not found is the everyday answer of a race that the kubelet expects.
    LogLevel level = outcome.error().code() == Code::kNotFound ? LogLevel::kInfo : LogLevel::kWarning;
    Log(level, "call failed",
        {{"method", method_.name},
         {"object", object_},
         {"request", ctx_.request_id()},
         {"code", CodeName(outcome.error().code())},
         {"error", outcome.error()},
         {"ms", Millis(took)}});
    return;
  }
  LogLevel level = method_.chatty ? LogLevel::kDebug : LogLevel::kInfo;
  if (!LogEnabled(level)) return;
  Log(level, "call",
      {{"method", method_.name}, {"object", object_}, {"request", ctx_.request_id()}, {"ms", Millis(took)}});
}

std::string LogName(std::string object) {
  constexpr size_t kBytesMax = 200;
  size_t at = object.find('@');
  bool userinfo = at != std::string::npos && object.compare(at, 4, "@sha") != 0;
  if (userinfo || object.find_first_of("?\\") != std::string::npos || object.find("://") != std::string::npos) {
    return "(not an image reference)";
  }
  if (object.size() > kBytesMax) object = object.substr(0, kBytesMax) + "…";
  return object;
}

}  // namespace crisp::cri
