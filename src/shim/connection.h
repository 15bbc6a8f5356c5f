// One crispd at the shim's socket. Usually there is one; a restarted crispd may come before the old connection is gone.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "shim/loop.h"
#include "shimapi/message.h"
#include "shimapi/socket.h"

namespace crisp::shim {

class Connection {
 public:
  Connection(uint64_t id, sys::UniqueFd fd) : id_(id), fd_(std::move(fd)) {}
  uint64_t id() const { return id_; }  // never reused
  sys::BorrowedFd fd() const { return fd_; }

  // Sends now, or when the peer reads again; a peer that stops reading for good is dropped once kQueueMax messages wait.
  void Send(std::string bytes);
  void FlushQueue();
  bool wants_to_write() const { return !queue_.empty(); }
  bool broken() const { return broken_; }

  bool subscribed = false;  // said Hello: gets events
  Loop::Id watch = 0;
  bool watched_for_writing = false;

 private:
  static constexpr size_t kQueueMax = 1024;
  uint64_t id_;
  sys::UniqueFd fd_;
  std::deque<std::string> queue_;
  bool broken_ = false;
};

// Who asked, for an answer that comes later. The connection may be gone by then.
struct Asker {
  std::weak_ptr<Connection> connection;
  uint32_t seq = 0;

  template <class Message>
  void Answer(const Message& message) const {
    std::shared_ptr<Connection> peer = connection.lock();
    if (peer == nullptr) return;
    Result<std::string> bytes = shimapi::Encode(seq, message);
    if (bytes) {
      peer->Send(*std::move(bytes));
    } else {
      Fail(bytes.error());
    }
  }
  void Fail(const Error& error, std::string output = {}, bool from_runtime = false) const;
};

}  // namespace crisp::shim
