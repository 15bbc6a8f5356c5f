#include "nri/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "base/thread.h"
#include "codec/nri_mux.h"
#include "codec/ttrpc.h"
#include "nri/protocol.h"
#include "ttrpc/v1/ttrpc.pb.h"

namespace crisp::nri {

namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr std::chrono::seconds kReplyTimeout(5);

Error FromStatus(const ttrpc::v1::Status& status) {
  int code = status.code();
  if (code < static_cast<int>(Code::kCancelled) || code > static_cast<int>(Code::kUnauthenticated)) {
    code = static_cast<int>(Code::kUnknown);
  }
  return Error(static_cast<Code>(code), Quote(status.message(), 1024));
}

}  // namespace

struct Readers {
  codec::NriMuxReader mux;
  codec::TtrpcReader plugin, runtime;
};

Connection::~Connection() {
  Close();
  if (thread_.joinable()) thread_.join();
}

void Connection::Start(Handler handler, std::function<void()> on_close) {
  handler_ = std::move(handler);
  on_close_ = std::move(on_close);
  Result<std::thread> thread = StartThread([this] { Read(); });
  if (thread) {
    thread_ = *std::move(thread);
    return;
  }
  LogWarning("no NRI connection", {{"error", thread.error()}});
  Close();
  on_close_();
}

void Connection::Close() {
  {
    auto state = state_.Lock();
    state->closed = true;
    (void)shutdown(socket_.get(), SHUT_RDWR);  // wakes the reader; the descriptor stays ours until the end
  }
  answered_.notify_all();
}

void Connection::Read() {
  Readers readers;
  std::string buffer(kReadBytes, '\0');
  while (true) {
    ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (Result<> taken = Take(std::string_view(buffer).substr(0, static_cast<size_t>(got)), readers); !taken) {
      LogWarning("NRI plugin does not keep to the protocol, closing its connection", {{"error", taken.error()}});
      break;
    }
  }
  Close();
  on_close_();
}

Result<> Connection::Take(std::string_view bytes, Readers& readers) {
  std::vector<codec::NriMuxFrame> pieces;
  TRY(readers.mux.Push(bytes, pieces));
  for (const codec::NriMuxFrame& piece : pieces) {
    std::vector<codec::TtrpcFrame> frames;
    if (piece.connection == kPluginConnection) {
      TRY(readers.plugin.Push(piece.payload, frames));
    } else if (piece.connection == kRuntimeConnection) {
      TRY(readers.runtime.Push(piece.payload, frames));
    }  // others are for uses that we do not have
    for (codec::TtrpcFrame& frame : frames) {
      if (piece.connection == kPluginConnection && frame.type == codec::TtrpcType::kResponse) {
        ttrpc::v1::Response response;
        if (!response.ParseFromString(frame.body)) return Error(Code::kDataLoss, "a response that is none");
        auto state = state_.Lock();
        auto waiting = state->waiting.find(frame.stream);
        if (waiting == state->waiting.end()) continue;  // its caller has given up
        bool failed = response.status().code() != 0;
        waiting->second->reply = failed ? Result<std::string>(FromStatus(response.status()))
                                        : Result<std::string>(std::move(*response.mutable_payload()));
        waiting->second->answered = true;
        answered_.notify_all();
      } else if (piece.connection == kRuntimeConnection && frame.type == codec::TtrpcType::kRequest) {
        ttrpc::v1::Request request;
        if (!request.ParseFromString(frame.body)) return Error(Code::kDataLoss, "a request that is none");
        handler_({frame.stream, request.service(), request.method(), std::move(*request.mutable_payload())});
      }
    }
  }
  return {};
}

Result<std::string> Connection::Call(const char* service, const char* method, const std::string& payload,
                                     std::chrono::milliseconds timeout) {
  Clock::time_point until = Clock::now() + timeout;
  ttrpc::v1::Request request;
  request.set_service(service);
  request.set_method(method);
  request.set_payload(payload);
  request.set_timeout_nano(std::chrono::nanoseconds(timeout).count());
  Waiting waiting;
  uint32_t stream = 0;
  {
    auto state = state_.Lock();
    if (state->closed) return Error(Code::kUnavailable, "the plugin is not connected");
    stream = state->next_stream;
    state->next_stream += 2;
    state->waiting[stream] = &waiting;
  }
  Result<std::string> frame = codec::EncodeTtrpc({stream, codec::TtrpcType::kRequest, 0, request.SerializeAsString()});
  Result<> sent = frame ? Send(kPluginConnection, *frame, until) : Result<>(frame.error());
  auto state = state_.Lock();
  if (sent) state.WaitUntil(answered_, until, [&] { return waiting.answered || state->closed; });
  state->waiting.erase(stream);
  TRY(std::move(sent));
  if (waiting.answered) return std::move(waiting.reply);
  if (state->closed) return Error(Code::kUnavailable, "the plugin has closed its connection");
  // Nobody waits twice for one that is silent.
  state->closed = true;
  (void)shutdown(socket_.get(), SHUT_RDWR);
  return Error(Code::kDeadlineExceeded, StrCat("no answer to ", method, " within ", timeout.count(), " ms"));
}

void Connection::Reply(uint32_t stream, Result<std::string> payload) {
  ttrpc::v1::Response response;
  if (payload) {
    response.set_payload(*payload);
  } else {
    response.mutable_status()->set_code(static_cast<int>(payload.error().code()));
    response.mutable_status()->set_message(payload.error().message());
  }
  Result<std::string> frame =
      codec::EncodeTtrpc({stream, codec::TtrpcType::kResponse, 0, response.SerializeAsString()});
  if (!frame || !Send(kRuntimeConnection, *frame, Clock::now() + kReplyTimeout)) Close();
}

// Half a message would be the end of all that follow, so one that does not get out ends the connection.
Result<> Connection::Send(uint32_t connection, std::string_view frame, Clock::time_point until) {
  std::string bytes = codec::EncodeNriMux(connection, frame);
  auto sending = sending_.Lock();
  Ctx ctx = Ctx(until, {}, "");
  for (size_t done = 0; done < bytes.size();) {
    ssize_t sent = send(socket_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<size_t>(sent);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      pollfd wait{socket_.get(), POLLOUT, 0};
      if (poll(&wait, 1, ctx.PollTimeoutMs()) > 0 || errno == EINTR) continue;
      Close();
      return Error(Code::kDeadlineExceeded, "the plugin does not read");
    }
    Close();
    return Error(Code::kUnavailable, "the plugin has closed its connection");
  }
  return {};
}

}  // namespace crisp::nri
