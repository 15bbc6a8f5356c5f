#include "shim/attachment.h"

#include <unistd.h>

#include <cerrno>

#include "base/log.h"

namespace crisp::shim {

using codec::LogStream;

namespace {

constexpr size_t kInputBytes = 16 * 1024;

Result<> SetNonBlocking(sys::BorrowedFd fd) {
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Errno(errno, "set O_NONBLOCK");
  return {};
}

}  // namespace

Attachment::~Attachment() { Detach(); }

Result<> Attachment::Start(AttachTarget& target, sys::UniqueFd in, sys::UniqueFd out, sys::UniqueFd err) {
  for (const sys::UniqueFd* fd : {&in, &out, &err}) {
    if (fd->ok()) TRY(SetNonBlocking(*fd));
  }
  if (in.ok()) in_watch_ = TRY(loop_.Watch(in, EPOLLIN, [this](uint32_t) { OnInput(); }));
  in_ = std::move(in);
  outputs_[0].fd = std::move(out);
  outputs_[1].fd = std::move(err);
  target_ = &target;
  return {};
}

void Attachment::Write(LogStream stream, std::string_view bytes) {
  Output& output = OutputOf(stream);
  if (!output.fd.ok()) return;
  if (output.left.empty()) {
    ssize_t n = write(output.fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno != EAGAIN && errno != EINTR) return CloseOutput(stream);  // the client does not want this stream
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
    if (bytes.empty()) return;
  }
  // More comes while the stream is held only in the end, when the container's pipe is read empty: a megabyte at most.
  output.left.append(bytes);
  Hold(stream);
}

void Attachment::Hold(LogStream stream) {
  Output& output = OutputOf(stream);
  if (output.watch != 0) return;
  Result<Loop::Id> watch = loop_.Watch(output.fd, EPOLLOUT, [this, stream](uint32_t) { Flush(stream); });
  if (!watch) return CloseOutput(stream);
  output.watch = *watch;
  output.timer = loop_.After(kHoldTime, [this, stream] {
    OutputOf(stream).timer = 0;
    OnTooSlow();
  });
  if (target_ != nullptr) target_->OnHeld(stream);
}

void Attachment::Release(LogStream stream) {
  Output& output = OutputOf(stream);
  if (output.watch == 0) return;
  loop_.Unwatch(std::exchange(output.watch, 0));
  loop_.CancelTimer(std::exchange(output.timer, 0));
  if (target_ != nullptr) target_->OnReleased(stream);
}

void Attachment::Flush(LogStream stream) {
  Output& output = OutputOf(stream);
  ssize_t n = write(output.fd.get(), output.left.data(), output.left.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) {
    CloseOutput(stream);
  } else {
    output.left.erase(0, static_cast<size_t>(n));
    if (!output.left.empty()) return;
    output.left = std::string();  // an idle client keeps no buffer
    Release(stream);
  }
  if (target_ == nullptr) End(shimapi::AttachEnded::kContainerEnded);
}

void Attachment::CloseOutput(LogStream stream) {
  Release(stream);
  Output& output = OutputOf(stream);
  output.left = std::string();
  output.fd.Reset();
}

void Attachment::OnInput() {
  if (target_ == nullptr) return CloseInput();
  if (!target_->TakesInput()) {
    // Not only without EPOLLIN: the end of the client would be reported again and again.
    loop_.Unwatch(std::exchange(in_watch_, 0));
    return;
  }
  char* buffer = Scratch();
  ssize_t n = read(in_.get(), buffer, kInputBytes);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) return target_->TakeInput({buffer, static_cast<size_t>(n)});
  CloseInput();
}

void Attachment::ResumeInput() {
  if (!in_.ok() || in_watch_ != 0) return;
  Result<Loop::Id> watch = loop_.Watch(in_, EPOLLIN, [this](uint32_t) { OnInput(); });
  if (watch) {
    in_watch_ = *watch;
  } else {
    CloseInput();
  }
}

void Attachment::CloseInput() {
  if (!in_.ok()) return;
  loop_.Unwatch(std::exchange(in_watch_, 0));
  in_.Reset();
  if (target_ != nullptr) target_->OnInputEnd();
}

void Attachment::Detach() {
  CloseInput();
  CloseOutput(LogStream::kStdout);
  CloseOutput(LogStream::kStderr);
  if (target_ != nullptr) std::exchange(target_, nullptr)->OnDetach(*this);
}

void Attachment::OnTooSlow() {
  LogWarning("an attached client does not read, dropping it", {{"container", request_.container}});
  Detach();
  End(shimapi::AttachEnded::kNotReading);
}

void Attachment::OnContainerEnd(int code, int signal) {
  target_ = nullptr;
  code_ = code;
  signal_ = signal;
  CloseInput();
  End(shimapi::AttachEnded::kContainerEnded);
}

// Not while something is left to write. The pipes are closed first: who hears of the end finds the end of file.
void Attachment::End(shimapi::AttachEnded::Reason reason) {
  if (over_ || !outputs_[0].left.empty() || !outputs_[1].left.empty()) return;
  over_ = true;
  Detach();
  shimapi::AttachEnded ended;
  ended.attach = request_.attach;
  ended.reason = reason;
  ended.code = code_;
  ended.signal = signal_;
  Asker{asker_.connection, 0}.Answer(ended);
  on_over_(*this);
}

}  // namespace crisp::shim
