// The streaming server: exec, attach and port-forward for kubectl and crictl, by way of the kubelet, over HTTP/1.1
// upgraded to SPDY/3.1 or WebSocket. A CRI call asks for a URL; its bearer dials it.
//
// What clients speak is in README.md and docs/formats/streaming.md. Each connection has bounded memory and slow clients
// get back-pressure; a client that goes away ends its exec.
// Threading: Issue from any thread. The server has one thread for all connections and a pool, on which it calls the
// backend; both end with it. The destructor closes all connections (which ends their execs) and waits for the backend's
// calls.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/result.h"
#include "stream/tokens.h"

namespace crisp::stream {

class Server {
 public:
  struct Options {
    std::string address = "127.0.0.1:0";  // IP:PORT, IPv6 in brackets; port 0: any free one
    // Both empty: plain HTTP. PEM files; changed ones are used for the next connection, broken ones are not.
    std::string tls_cert, tls_key;
    std::chrono::milliseconds idle_timeout = std::chrono::hours(4);         // without a byte in either direction
    std::chrono::milliseconds creation_timeout = std::chrono::seconds(30);  // for handshakes and a client's streams
    size_t connections_max = 2000;
    Tokens::Options tokens;
  };
  static Result<std::unique_ptr<Server>> Listen(const Options& options, Backend& backend);
  ~Server();

  // The URL at which `request` is carried out, once, within a minute.
  Result<std::string> Issue(Request request);
  int port() const;
  size_t connections() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace crisp::stream
