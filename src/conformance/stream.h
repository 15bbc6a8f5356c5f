// A client of the streaming server behind Exec, Attach and PortForward, as kubectl is one: SPDY/3.1, or WebSocket with
// the channel protocols. Plain blocking sockets; every wait is bounded. Threading: one thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace crisp::conformance {

struct StreamRequest {
  bool in = false, out = true, err = true, tty = false;
};

class StreamClient {
 public:
  virtual ~StreamClient() = default;

  // `transport`: "spdy" or "websocket". `protocol`: what to offer, "": v5 for WebSocket, v4 for SPDY.
  static Result<std::unique_ptr<StreamClient>> Open(const std::string& url, const std::string& transport,
                                                    const StreamRequest& request, std::chrono::milliseconds patience,
                                                    const std::string& protocol = "");
  virtual void Send(const std::string& bytes) = 0;  // to stdin
  virtual void EndInput() = 0;
  virtual void Resize(int columns, int rows) = 0;
  // Reads until `done` says so, the connection ends or patience does. False: it was patience.
  virtual bool ReadUntil(const std::function<bool()>& done) = 0;

  std::string out, err;
  std::string status;  // what the error stream brought: a metav1.Status, or nothing
  bool ended = false;  // all streams, or the connection
  std::string chosen;  // the protocol that the server chose
};

// One port-forward: opens the pair of streams for `port`, sends `request`, and gives what came until the pod closed.
// `transport` "websocket": the same SPDY inside the messages of a WebSocket, as kubectl tunnels it.
Result<std::string> ForwardOnce(const std::string& url, const std::string& transport, int port,
                                const std::string& request, std::chrono::milliseconds patience);

// A plain TCP exchange: connect, send, read to the end.
Result<std::string> TcpOnce(const std::string& host, int port, const std::string& request,
                            std::chrono::milliseconds patience);

}  // namespace crisp::conformance
