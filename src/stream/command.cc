#include "stream/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <vector>

#include "stream/backend.h"
#include "stream/status.h"

namespace crisp::stream {
namespace {

using Descriptor = asio::posix::stream_descriptor;
constexpr size_t kPipeBytes = 64 << 10;  // where F_GETPIPE_SZ says nothing
constexpr char kEndOfTransmission = 4;   // ^D: a terminal's end of file

// Takes the descriptor over; closed if the loop cannot wait for it.
void Assign(Descriptor& descriptor, sys::UniqueFd fd) {
  if (!fd.ok()) return;
  error_code error;
  descriptor.assign(fd.get(), error);
  if (!error) (void)fd.Release();
}

class Command : public std::enable_shared_from_this<Command> {
 public:
  Command(Services& services, std::shared_ptr<Link> link, Request request, CommandChannels channels, int version)
      : services_(services),
        link_(std::move(link)),
        request_(std::move(request)),
        channels_(channels),
        version_(version),
        in_(services.io),
        out_(services.io),
        err_(services.io),
        changed_(services.io),
        tasks_(services.io) {}

  Task<> Run() {
    link_->OnChange([this] { changed_.Notify(); });
    if (channels_.in) in_box_ = link_->OpenInbox(*channels_.in);
    if (channels_.resize) resize_box_ = link_->OpenInbox(*channels_.resize);
    for (const std::optional<uint32_t>& channel : {channels_.out, channels_.err, std::optional(channels_.error)}) {
      if (channel) link_->CloseInbox(*channel);
    }
    Result<int> outcome = 0;
    Result<> opened = co_await Open();
    if (opened) {
      outcome = co_await Pump();
    } else {
      outcome = std::move(opened).error();
    }
    // The session ends here, whatever the client does now: nothing of the container waits for a client.
    co_await EndSession();
    if (!link_->over()) co_await SayHowItEnded(std::move(outcome));
    link_->OnChange(nullptr);
    co_await link_->Farewell();
    co_await tasks_.Join();
  }

 private:
  Task<Result<>> Open() {
    std::function<Result<SessionPtr>()> open = [&backend = services_.backend, ctx = services_.ctx,
                                                request = request_]() {
      Ctx bounded = ctx.WithTimeout(kOpenBound);
      return request.verb == Verb::kExec ? backend.OpenExec(bounded, request.id, request.cmd, request.wants)
                                         : backend.OpenAttach(bounded, request.id, request.wants);
    };
    Result<SessionPtr> session = co_await OnPool<SessionPtr>(services_.io, services_.pool, std::move(open));
    if (!session) co_return std::move(session).error();
    session_ = std::move(*session);
    StreamFds fds = session_->TakeFds();
    Assign(in_, std::move(fds.in));
    Assign(out_, std::move(fds.out));
    Assign(err_, std::move(fds.err));
    co_return Result<>();
  }

  Task<Result<int>> Pump() {
    session_->OnExit([self = shared_from_this()](Result<int> code) {
      asio::post(self->services_.io, [self, code = std::move(code)]() mutable {
        self->exit_.emplace(std::move(code));
        self->changed_.Notify();
      });
    });
    if (out_.is_open() && channels_.out) SpawnOutput(out_, *channels_.out);
    if (err_.is_open() && channels_.err) SpawnOutput(err_, *channels_.err);
    if (in_box_) tasks_.Spawn(PumpInput());
    if (resize_box_) tasks_.Spawn(PumpResize());
    while (!link_->over() && !exit_) co_await changed_.Wait();
    if (!link_->over()) co_await DrainOutputs();
    error_code ignored;
    in_.close(ignored);
    out_.close(ignored);
    err_.close(ignored);
    if (!exit_) co_return Error(Code::kCancelled, "the client went away");
    co_return std::move(*exit_);
  }

  // After the exit: see kStreamDrainTime. Who ended by themselves has closed its pipes, which is the normal case.
  Task<> DrainOutputs() {
    Clock::time_point until = Clock::now() + pod::kStreamDrainTime;
    while (outputs_ > 0 && !link_->over() && Clock::now() < until) co_await changed_.WaitFor(until - Clock::now());
    draining_ = true;
    error_code ignored;
    out_.cancel(ignored);
    err_.cancel(ignored);
    while (outputs_ > 0 && !link_->over()) co_await changed_.Wait();
  }

  void SpawnOutput(Descriptor& from, uint32_t channel) {
    ++outputs_;
    tasks_.Spawn(PumpOutput(from, channel));
  }

  Task<> PumpOutput(Descriptor& from, uint32_t channel) {
    std::vector<char> buffer(Link::kReadBytes);
    std::optional<size_t> left;  // of a pipe that somebody else keeps writing to
    bool wanted = true;
    while (true) {
      size_t got = 0;
      if (draining_) {
        if (!left) left = PipeBytes(from.native_handle());
        ssize_t now = read(from.native_handle(), buffer.data(), buffer.size());
        if (now <= 0 || *left == 0) break;
        got = static_cast<size_t>(now);
        *left -= std::min(*left, got);
      } else {
        auto [error, bytes] = co_await from.async_read_some(asio::buffer(buffer), kAwait);
        if (error == asio::error::operation_aborted && draining_ && from.is_open()) continue;
        if (error) break;  // also EIO: nobody has the terminal open any more
        got = bytes;
      }
      // A client that has reset the stream does not stop the process, which may have other streams.
      if (wanted) wanted = co_await link_->Send(channel, std::string_view(buffer.data(), got));
      if (link_->over()) break;
    }
    link_->End(channel);
    --outputs_;
    changed_.Notify();
  }

  static size_t PipeBytes(int fd) {
    int size = fcntl(fd, F_GETPIPE_SZ);
    return size > 0 ? static_cast<size_t>(size) : kPipeBytes;
  }

  // The client's input. What the process does not take any more is thrown away, so that the client is never stuck.
  Task<> PumpInput() {
    while (true) {
      while (in_box_->bytes.empty() && !in_box_->ended && !in_box_->reset) co_await in_box_->changed.Wait();
      if (in_box_->bytes.empty()) break;
      std::string bytes = std::exchange(in_box_->bytes, {});
      if (in_.is_open()) co_await WriteInput(bytes);
      link_->Consumed(*channels_.in, bytes.size());
    }
    if (request_.wants.tty && in_box_->ended && in_.is_open()) co_await WriteInput(std::string(1, kEndOfTransmission));
    error_code ignored;
    in_.close(ignored);
  }

  Task<> WriteInput(const std::string& bytes) {
    auto [error, written] = co_await asio::async_write(in_, asio::buffer(bytes), kAwait);
    error_code ignored;
    if (error && in_.is_open()) in_.close(ignored);
  }

  Task<> PumpResize() {
    std::string text;
    while (session_) {
      while (resize_box_->bytes.empty() && !resize_box_->ended && !resize_box_->reset) {
        co_await resize_box_->changed.Wait();
      }
      if (resize_box_->bytes.empty() || !session_) co_return;
      text += resize_box_->bytes;
      link_->Consumed(*channels_.resize, std::exchange(resize_box_->bytes, {}).size());
      std::optional<TerminalSize> size = TakeTerminalSize(text);
      if (!size) continue;
      // While this runs more may come in: the last one counts.
      std::function<Result<int>()> resize = [session = session_, size = *size]() -> Result<int> {
        TRY(session->Resize(size.width, size.height));
        return 0;
      };
      (void)co_await OnPool<int>(services_.io, services_.pool, std::move(resize));
    }
  }

  Task<> EndSession() {
    std::shared_ptr<StreamSession> session = std::exchange(session_, nullptr);
    if (!session) co_return;
    std::function<Result<int>()> end = [place = std::make_shared<std::shared_ptr<StreamSession>>(session)]() {
      place->reset();
      return Result<int>(0);
    };
    session.reset();
    (void)co_await OnPool<int>(services_.io, services_.pool, std::move(end));
  }

  Task<> SayHowItEnded(Result<int> outcome) {
    if (request_.verb == Verb::kAttach && outcome) outcome = 0;  // how the container ended is in its status
    std::string text = StatusText(outcome, version_);
    if (!text.empty()) (void)co_await link_->Send(channels_.error, text);
    for (const std::optional<uint32_t>& channel : {channels_.in, channels_.out, channels_.err, channels_.resize}) {
      if (channel) link_->End(*channel);
    }
    link_->End(channels_.error);
  }

  static constexpr std::chrono::minutes kOpenBound{2};

  Services& services_;
  const std::shared_ptr<Link> link_;
  const Request request_;
  const CommandChannels channels_;
  const int version_;
  std::shared_ptr<StreamSession> session_;
  Descriptor in_, out_, err_;
  std::shared_ptr<Inbox> in_box_, resize_box_;
  std::optional<Result<int>> exit_;
  Signal changed_;
  Tasks tasks_;
  int outputs_ = 0;
  bool draining_ = false;
};

}  // namespace

Task<> RunCommand(Services& services, std::shared_ptr<Link> link, Request request, CommandChannels channels,
                  int protocol_version) {
  auto command = std::make_shared<Command>(services, std::move(link), std::move(request), channels, protocol_version);
  co_await command->Run();
}

}  // namespace crisp::stream
