// Clients for the server's tests, with plain blocking sockets. Every wait ends after some seconds with a failure.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codec/spdy.h"
#include "sys/fd.h"

namespace crisp::stream {

// A connection to 127.0.0.1:port.
class RawClient {
 public:
  explicit RawClient(int port);
  bool Write(std::string_view bytes);
  // At least one byte; "" at the end of the connection. `*reset`: the end was a reset (or nothing came in time).
  std::string Read(bool* reset = nullptr);
  // The answer's head; what follows stays for Read.
  std::string ReadHead();
  void Close() { fd_.Reset(); }
  void CloseWithReset();
  void EndWrite();
  int fd() const { return fd_.get(); }

 private:
  sys::UniqueFd fd_;
  std::string early_;
};

// The path of an URL of the server: "/exec/…".
std::string PathOf(const std::string& url);
// One request without an upgrade, or with `headers`; the status line.
std::string StatusOf(int port, const std::string& path, const std::string& headers = "");

class SpdyClient : private codec::SpdySession::Events {
 public:
  SpdyClient(int port, const std::string& path, const std::string& protocol);
  bool upgraded() const { return head_.starts_with("HTTP/1.1 101"); }
  const std::string& head() const { return head_; }

  uint32_t Open(const codec::SpdyHeaders& headers);
  void Send(uint32_t stream, std::string_view bytes);
  void End(uint32_t stream);
  void Reset(uint32_t stream);
  // Reads until the streams have ended (or were reset), or the connection has.
  void ReadUntilEnded(const std::vector<uint32_t>& streams);
  // Reads until `stream` has brought at least `bytes` in all.
  void ReadUntil(uint32_t stream, size_t bytes);
  // Reads to the end of the connection; false: it was a reset.
  bool ReadToEnd();

  std::map<uint32_t, std::string> data;
  std::map<uint32_t, bool> ended, was_reset;
  RawClient raw;

 private:
  bool ReadSome();
  void Flush();
  void OnStream(uint32_t, const codec::SpdyHeaders&) override {}
  void OnData(uint32_t stream, std::string_view bytes) override;
  void OnEnd(uint32_t stream) override { ended[stream] = true; }
  void OnReset(uint32_t stream) override { was_reset[stream] = true; }
  void OnGoAway() override {}

  std::string head_;
  codec::SpdySession session_;
  bool over_ = false, over_by_reset_ = false;
};

class WebSocketClient {
 public:
  WebSocketClient(int port, const std::string& path, const std::string& protocol);
  bool upgraded() const { return head_.starts_with("HTTP/1.1 101"); }
  const std::string& head() const { return head_; }
  void Send(std::string_view message, int opcode = 2);
  // Data messages as they come; "" when the server has closed.
  std::string Receive();
  // All messages until the server closes, with channels put together: {1: "output", …}.
  std::map<int, std::string> ReceiveAll();
  int close_code = 0;
  RawClient raw;

 private:
  bool Fill(size_t bytes);
  std::string head_, input_;
};

}  // namespace crisp::stream
