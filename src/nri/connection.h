// Connection: ttRPC in both directions over one socket. Calls to the peer may be made by several threads at once; calls
// of the peer are handed to a handler. Threading: Call and Close from any thread. One thread of the connection's own
// reads; the handler runs on it and must not wait for anything: it passes the request on and answers later by Reply.
// Limits: messages of 4 MiB; a peer that does not read for as long as a call may take is disconnected.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/context.h"
#include "base/result.h"
#include "base/synchronized.h"
#include "sys/fd.h"

namespace crisp::nri {

struct Request {
  uint32_t stream = 0;
  std::string service, method, payload;
};

class Connection {
 public:
  using Handler = std::function<void(Request)>;

  explicit Connection(sys::UniqueFd socket) : socket_(std::move(socket)) {}
  // Closes, and waits for the reading thread.
  ~Connection();

  // `handler` and `on_close` run on the reading thread; on_close once, as the last.
  void Start(Handler handler, std::function<void()> on_close);

  // The peer's reply or its error, which is kInvalidArgument and so on as the peer says. kUnavailable: the connection
  // has ended. After a kDeadlineExceeded of our own it has ended, too. kResourceExhausted: over 4 MiB.
  Result<std::string> Call(const char* service, const char* method, const std::string& payload,
                           std::chrono::milliseconds timeout);
  void Reply(uint32_t stream, Result<std::string> payload);
  void Close();
  bool closed() const { return state_.Lock()->closed; }

 private:
  struct Waiting {
    bool answered = false;
    Result<std::string> reply = std::string();
  };
  struct State {
    bool closed = false;
    uint32_t next_stream = 1;
    std::map<uint32_t, Waiting*> waiting;
  };

  void Read();
  Result<> Take(std::string_view bytes, struct Readers& readers);
  Result<> Send(uint32_t connection, std::string_view frame, Clock::time_point until);

  const sys::UniqueFd socket_;
  Handler handler_;
  std::function<void()> on_close_;
  Synchronized<State> state_;
  std::condition_variable answered_;
  Synchronized<int> sending_;  // held while a message is written
  std::thread thread_;
};

}  // namespace crisp::nri
