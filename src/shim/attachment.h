// A client that is attached to a container, by pipes whose other ends crispd has handed to whoever serves the client.
//
// Output goes to the log first. A client whose pipe is full holds the reading of that stream until its pipe has taken
// what is left (a piece of 16 KiB), so a client that reads sees every byte; one that has not done so within kHoldTime
// is dropped, so that no client stops the container. A slow reader slows the container down, to 16 KiB in kHoldTime at
// worst.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "codec/cri_log.h"
#include "shim/connection.h"
#include "shim/loop.h"
#include "shimapi/message.h"

namespace crisp::shim {

inline constexpr std::chrono::milliseconds kHoldTime{2000};

class Attachment;

// What an attachment needs of its container.
class AttachTarget {
 public:
  virtual void OnDetach(Attachment& client) = 0;  // it is not there any more
  virtual bool TakesInput() const = 0;            // false: later, ResumeInput is called then
  virtual void TakeInput(std::string_view bytes) = 0;
  virtual void OnInputEnd() = 0;
  // The stream is read no further, or is read again.
  virtual void OnHeld(codec::LogStream stream) = 0;
  virtual void OnReleased(codec::LogStream stream) = 0;

 protected:
  ~AttachTarget() = default;
};

class Attachment {
 public:
  // `on_over`: it can be destroyed (not from within the callback); told to the asker's connection already.
  Attachment(Loop& loop, Asker asker, shimapi::Attach request, std::function<void(Attachment&)> on_over)
      : loop_(loop), asker_(std::move(asker)), request_(std::move(request)), on_over_(std::move(on_over)) {}
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  ~Attachment();

  // `in` etc. are not ok() where not wanted or not there. `target` lives until it says OnContainerEnd or hears
  // OnDetach.
  Result<> Start(AttachTarget& target, sys::UniqueFd in, sys::UniqueFd out, sys::UniqueFd err);
  void Write(codec::LogStream stream, std::string_view bytes);
  void ResumeInput();
  // No more output comes: what is left is written, then the client is told. It may be over after that.
  void OnContainerEnd(int code, int signal);

 private:
  struct Output {
    sys::UniqueFd fd;
    std::string left;  // not written yet
    Loop::Id watch = 0, timer = 0;
  };
  Output& OutputOf(codec::LogStream stream) { return outputs_[stream == codec::LogStream::kStdout ? 0 : 1]; }
  void Flush(codec::LogStream stream);
  void Hold(codec::LogStream stream);
  void Release(codec::LogStream stream);
  void CloseOutput(codec::LogStream stream);
  void OnInput();
  void CloseInput();
  void Detach();
  void OnTooSlow();
  void End(shimapi::AttachEnded::Reason reason);

  Loop& loop_;
  Asker asker_;
  shimapi::Attach request_;
  std::function<void(Attachment&)> on_over_;
  AttachTarget* target_ = nullptr;  // until Detach or OnContainerEnd
  sys::UniqueFd in_;
  Loop::Id in_watch_ = 0;
  std::array<Output, 2> outputs_;
  int code_ = 0, signal_ = 0;
  bool over_ = false;
};

}  // namespace crisp::shim
