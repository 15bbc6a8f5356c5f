// The client's half of exec and attach.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/detached.hpp>
#include <boost/asio/signal_set.hpp>
#include <semaphore>
#include <thread>

#include "base/json.h"
#include "base/strings.h"
#include "stream/dial.h"
#include "sys/fd.h"

namespace crisp::stream {
namespace {

constexpr const char* kSpdyOffer = "v5.channel.k8s.io,v4.channel.k8s.io,v3.channel.k8s.io,v2.channel.k8s.io";
constexpr const char* kWebSocketOffer = "v5.channel.k8s.io, v4.channel.k8s.io, channel.k8s.io";
constexpr uint32_t kNone = UINT32_MAX;
constexpr std::chrono::seconds kLeaveTime(2);

// Reads a descriptor on a thread of its own: it may be a file, which epoll does not take, or a terminal, which must not
// become non-blocking for everybody who has it.
class Input {
 public:
  Input(asio::io_context& io, int fd) : io_(io), fd_(fd), stop_(eventfd(0, EFD_CLOEXEC)), came_(io) {
    thread_ = std::thread([this] { ReadAll(); });
  }
  ~Input() {
    stopping_ = true;
    (void)eventfd_write(stop_.get(), 1);
    taken_.release();
    thread_.join();
  }
  // The next bytes; "" at the end.
  Task<std::string> Next() {
    while (!have_) co_await came_.Wait();
    have_ = ended_;
    std::string bytes = std::exchange(bytes_, {});
    if (!ended_) taken_.release();
    co_return bytes;
  }

 private:
  void ReadAll() {
    std::array<char, Link::kReadBytes> buffer;
    while (!stopping_) {
      std::array<pollfd, 2> ready = {pollfd{fd_, POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
      if (poll(ready.data(), ready.size(), -1) < 0 && errno == EINTR) continue;
      if (stopping_) return;
      ssize_t got = read(fd_, buffer.data(), buffer.size());
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      asio::post(io_, [this, bytes = std::string(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0)]() mutable {
        ended_ = bytes.empty();
        bytes_ = std::move(bytes);
        have_ = true;
        came_.Notify();
      });
      if (got <= 0) return;
      taken_.acquire();
    }
  }

  asio::io_context& io_;
  const int fd_;
  sys::UniqueFd stop_;
  Signal came_;  // this and what follows: the loop's thread
  std::string bytes_;
  bool have_ = false, ended_ = false;
  std::atomic<bool> stopping_ = false;
  std::counting_semaphore<> taken_{0};
  std::thread thread_;
};

// Holds back what may become the detach keys; the keys themselves never go out (docker's and crictl's behaviour).
class DetachKeys {
 public:
  explicit DetachKeys(std::string keys) : keys_(std::move(keys)) {}
  // What goes out of `bytes`; true once all keys were seen.
  bool Filter(std::string& bytes) {
    if (keys_.empty()) return false;
    std::string out;
    for (char c : bytes) {
      if (c != keys_[seen_]) {
        out.append(keys_, 0, seen_);
        seen_ = 0;
      }
      if (c != keys_[seen_]) {
        out.push_back(c);
      } else if (++seen_ == keys_.size()) {
        bytes = std::move(out);
        return true;
      }
    }
    bytes = std::move(out);
    return false;
  }

 private:
  const std::string keys_;
  size_t seen_ = 0;
};

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t sent = write(fd, bytes.data(), bytes.size());
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      poll(&ready, 1, -1);
      continue;
    }
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// The error channel's text: nothing or a Success is 0, a cause "ExitCode" is the code, the rest is an error.
Result<int> ParseOutcome(const std::string& text) {
  if (Trim(text).empty()) return 0;
  auto json = ParseJson(text, "status");
  if (!json || !json->is_object()) return Error(Code::kUnknown, std::string(Trim(text)));
  auto status = JsonGet<std::string>(*json, "status");
  if (status && *status == "Success") return 0;
  auto reason = JsonGet<std::string>(*json, "reason");
  if (reason && *reason == "NonZeroExitCode" && json->contains("details") && (*json)["details"].is_object()) {
    for (const Json& cause : (*json)["details"].value("causes", Json::array())) {
      if (!cause.is_object() || JsonGet<std::string>(cause, "reason").value_or("") != "ExitCode") continue;
      if (auto code = ParseInt<int>(JsonGet<std::string>(cause, "message").value_or(""))) return *code;
    }
  }
  return Error(Code::kUnknown, JsonGet<std::string>(*json, "message", "the runtime tells no reason").value_or(text));
}

class CommandClient {
 public:
  CommandClient(asio::io_context& io, const DialOptions& options, const CommandIo& files)
      : io_(io), options_(options), files_(files), tasks_(io), done_(io), winch_(io), keys_(files.detach_keys) {}

  Task<> Run(Target target) {
    result = co_await Talk(std::move(target));
    io_.stop();
  }

  Result<CommandEnd> result = Error(Code::kInternal, "the session did not run");

 private:
  struct Channels {
    uint32_t in = kNone, out = kNone, err = kNone, error = kNone, resize = kNone;
  };

  Task<Result<CommandEnd>> Talk(Target target) {
    auto stream = co_await Connect(io_, target, options_);
    if (!stream) co_return std::move(stream).error();
    Result<> begun = options_.transport == Transport::kSpdy ? co_await BeginSpdy(*stream, target)
                                                            : co_await BeginWebSocket(*stream, target);
    if (!begun) co_return std::move(begun).error();
    error_ = link_->OpenInbox(channels_.error);
    for (auto [channel, fd] : {std::pair(channels_.out, files_.out), std::pair(channels_.err, files_.err)}) {
      if (channel != kNone) Spawn(PumpOut(link_->OpenInbox(channel), channel, fd));
    }
    Spawn(CollectStatus());
    if (channels_.in != kNone) tasks_.Spawn(PumpIn());
    if (channels_.resize != kNone) tasks_.Spawn(FollowSize());
    while (running_ > 0 && !detached_ && !output_gone_) co_await done_.Wait();
    co_await Leave();
    if (detached_) co_return CommandEnd{.detached = true};
    if (status_.empty() && !error_ended_ && !output_gone_) {
      co_return Error(Code::kUnavailable, "the connection ended before the runtime told how the command ended");
    }
    auto outcome = ParseOutcome(status_);
    if (!outcome) co_return std::move(outcome).error();
    co_return CommandEnd{.exit_code = *outcome};
  }

  Task<Result<>> BeginSpdy(std::shared_ptr<ClientStream> stream, const Target& target) {
    auto upgrade = co_await UpgradeToSpdy(std::move(stream), target, kSpdyOffer);
    if (!upgrade) co_return std::move(upgrade).error();
    spdy_ = std::make_shared<SpdyLink>(io_, kNeverIdle, std::move(upgrade->pipe), SpdyLink::Role::kClient);
    link_ = spdy_;
    link_->Start();
    auto open = [this](const char* type) { return spdy_->Open({{"streamtype", type}}); };
    channels_.error = open("error");
    if (files_.in >= 0) channels_.in = open("stdin");
    if (files_.out >= 0) channels_.out = open("stdout");
    if (files_.err >= 0 && !files_.tty) channels_.err = open("stderr");
    bool sizes = upgrade->version != "v2.channel.k8s.io" && !upgrade->version.empty();
    if (files_.tty && sizes) channels_.resize = open("resize");
    co_return Result<>();
  }

  Task<Result<>> BeginWebSocket(std::shared_ptr<ClientStream> stream, const Target& target) {
    auto upgrade = co_await UpgradeToWebSocket(stream, target, kWebSocketOffer);
    if (!upgrade) co_return std::move(upgrade).error();
    auto protocol = codec::ChooseCommandProtocol(upgrade->protocol);
    if (!protocol) co_return std::move(protocol).error();
    websocket_ =
        std::make_shared<WebSocketLink>(io_, kNeverIdle, std::move(stream), std::move(upgrade->socket), *protocol);
    link_ = websocket_;
    channels_ = {.out = 1, .error = 3};
    if (files_.in >= 0) channels_.in = 0;
    if (files_.err >= 0 && !files_.tty) channels_.err = 2;
    if (files_.tty) channels_.resize = 4;
    (void)link_->OpenInbox(channels_.out);  // before the first message can come
    (void)link_->OpenInbox(2);
    (void)link_->OpenInbox(channels_.error);
    link_->Start();
    co_return Result<>();
  }

  // A task whose end may be the session's.
  void Spawn(Task<> task) {
    ++running_;
    tasks_.Spawn(Counted(std::move(task)));
  }
  Task<> Counted(Task<> task) {
    co_await std::move(task);
    --running_;
    done_.Notify();
  }

  Task<> PumpOut(std::shared_ptr<Inbox> inbox, uint32_t channel, int fd) {
    while (true) {
      if (std::string bytes = std::exchange(inbox->bytes, {}); !bytes.empty()) {
        // Blocks the loop: who does not take the output holds up the command, as a pipe would.
        if (!WriteAll(fd, bytes)) {
          output_gone_ = true;
          co_return;
        }
        link_->Consumed(channel, bytes.size());
      } else if (inbox->ended || inbox->reset) {
        co_return;
      } else {
        co_await inbox->changed.Wait();
      }
    }
  }

  Task<> CollectStatus() {
    while (!error_->ended && !error_->reset) co_await error_->changed.Wait();
    status_ = error_->bytes;
    // SPDY ends the stream. WebSocket's end is that of the connection, which says nothing unless a status came.
    bool says_nothing = websocket_ && websocket_->protocol().version < 4;  // of a success
    error_ended_ = error_->ended || says_nothing;
  }

  Task<> PumpIn() {
    input_ = std::make_unique<Input>(io_, files_.in);
    while (true) {
      std::string bytes = co_await input_->Next();
      if (bytes.empty()) break;
      detached_ = keys_.Filter(bytes);
      if (!bytes.empty() && !co_await link_->Send(channels_.in, bytes)) co_return;
      if (detached_) {
        done_.Notify();
        co_return;
      }
    }
    if (websocket_ && websocket_->protocol().closes) websocket_->SendMessage(codec::MakeChannelClose(0));
    link_->End(channels_.in);
  }

  Task<> FollowSize() {
    error_code ignored;
    winch_.add(SIGWINCH, ignored);
    while (!link_->over()) {
      if (auto size = files_.size ? files_.size() : std::nullopt) {
        std::string message = StrCat("{\"Width\":", size->width, ",\"Height\":", size->height, "}\n");
        if (!co_await link_->Send(channels_.resize, message)) co_return;
      }
      auto [error, signal] = co_await winch_.async_wait(kAwait);
      if (error) co_return;
    }
  }

  Task<> Leave() {
    if (spdy_) {
      co_await spdy_->Leave();
    } else if (!link_->over()) {
      asio::steady_timer bound(io_, kLeaveTime);
      bound.async_wait([link = link_](error_code cancelled) {
        if (!cancelled) link->Abort();
      });
      co_await link_->Farewell();
    }
  }

  asio::io_context& io_;
  const DialOptions options_;
  const CommandIo files_;
  std::shared_ptr<Link> link_;
  std::shared_ptr<SpdyLink> spdy_;            // the same, or
  std::shared_ptr<WebSocketLink> websocket_;  // the same
  Channels channels_;
  std::shared_ptr<Inbox> error_;
  Tasks tasks_;
  Signal done_;
  asio::signal_set winch_;
  DetachKeys keys_;
  std::unique_ptr<Input> input_;
  int running_ = 0;
  bool detached_ = false, output_gone_ = false, error_ended_ = false;
  std::string status_;
};

}  // namespace

Result<CommandEnd> RunStreams(const std::string& url, const DialOptions& options, const CommandIo& io) {
  Target target = TRY(ParseTarget(url));
  asio::io_context loop;
  CommandClient client(loop, options, io);
  asio::co_spawn(loop, client.Run(std::move(target)), asio::detached);
  loop.run();
  return std::move(client.result);
}

}  // namespace crisp::stream
