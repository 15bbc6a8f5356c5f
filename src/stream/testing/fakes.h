// A backend whose "processes" are threads of the test: they get the other ends of the session's pipes.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "stream/backend.h"

namespace crisp::stream {

// What a fake process has: its ends of the pipes, blocking.
struct FakeProcess {
  sys::UniqueFd in, out, err;
  std::string container;
  std::vector<std::string> cmd;
  StreamWants wants;
};

class FakeSession final : public StreamSession {
 public:
  using Body = std::function<Result<int>(FakeProcess)>;
  FakeSession(FakeProcess process, Body body, std::atomic<int>& alive, std::vector<std::string>& sizes,
              std::mutex& sizes_mutex)
      : alive_(alive), sizes_(sizes), sizes_mutex_(sizes_mutex) {
    ++alive_;
    auto pipe_for = [](bool wanted, sys::UniqueFd& read, sys::UniqueFd& write) {
      if (!wanted) return;
      sys::Pipe pipe = *sys::MakePipe();
      read = std::move(pipe.read);
      write = std::move(pipe.write);
    };
    pipe_for(process.wants.in, process.in, fds_.in);
    pipe_for(process.wants.out, fds_.out, process.out);
    pipe_for(process.wants.err, fds_.err, process.err);
    for (const sys::UniqueFd* fd : {&fds_.in, &fds_.out, &fds_.err}) {
      if (fd->ok()) (void)fcntl(fd->get(), F_SETFL, O_NONBLOCK);
    }
    thread_ = std::thread([this, body = std::move(body), process = std::move(process)]() mutable {
      Result<int> code = body(std::move(process));
      std::lock_guard lock(mutex_);
      if (callback_) {
        callback_(std::move(code));
      } else {
        exit_.emplace(std::move(code));
      }
    });
  }
  ~FakeSession() override {
    fds_ = {};
    thread_.join();  // bodies end when their pipes do
    --alive_;
  }
  StreamFds TakeFds() override { return std::exchange(fds_, {}); }
  Result<> Resize(uint16_t width, uint16_t height) override {
    std::lock_guard lock(sizes_mutex_);
    sizes_.push_back(std::to_string(width) + "x" + std::to_string(height));
    return {};
  }
  void OnExit(std::function<void(Result<int>)> callback) override {
    std::lock_guard lock(mutex_);
    if (exit_) {
      callback(std::move(*exit_));
    } else {
      callback_ = std::move(callback);
    }
  }

 private:
  std::atomic<int>& alive_;
  std::vector<std::string>& sizes_;
  std::mutex& sizes_mutex_;
  StreamFds fds_;
  std::mutex mutex_;
  std::function<void(Result<int>)> callback_;
  std::optional<Result<int>> exit_;
  std::thread thread_;
};

class FakeBackend final : public Backend {
 public:
  FakeSession::Body body;  // of execs and attaches
  std::function<Result<sys::UniqueFd>(uint16_t)> dial;
  std::atomic<int> alive{0};  // sessions
  std::atomic<int> opened{0};

  std::vector<std::string> sizes() {
    std::lock_guard lock(mutex_);
    return sizes_;
  }

  Result<SessionPtr> OpenExec(const Ctx&, const std::string& container, const std::vector<std::string>& cmd,
                              const StreamWants& wants) override {
    ++opened;
    if (!body) return Error(Code::kNotFound, "no such program");
    return SessionPtr(
        new FakeSession({.container = container, .cmd = cmd, .wants = wants}, body, alive, sizes_, mutex_));
  }
  Result<SessionPtr> OpenAttach(const Ctx& ctx, const std::string& container, const StreamWants& wants) override {
    return OpenExec(ctx, container, {"(attach)"}, wants);
  }
  Result<sys::UniqueFd> DialPod(const Ctx&, const std::string&, uint16_t port) override {
    ++opened;
    if (!dial) return Error(Code::kUnavailable, "connection refused");
    return dial(port);
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> sizes_;
};

}  // namespace crisp::stream
