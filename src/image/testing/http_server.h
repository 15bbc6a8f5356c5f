// A scripted HTTP/1.1 server on loopback inside the test process. Each request goes to a function that answers it, well
// or badly: cut off, hanging, with a wrong length. Threading: the function runs on connection threads, one call at a
// time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sys/fd.h"

struct ssl_ctx_st;

namespace crisp::image::testing {

struct Request {
  std::string method;
  std::string target;  // with query
  std::string path;
  std::string query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string Header(const std::string& name) const;
};

struct Response {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;  // Content-Length is added unless it is here or `chunked`
  std::string body;
  bool chunked = false;
  std::optional<size_t> cut;  // send only so many bytes of the body, then close
  bool hang = false;          // do not close after the (cut) body, and send no more
};

class HttpServer {
 public:
  using Handler = std::function<Response(const Request&)>;
  enum class Tls { kNone, kSelfSigned };
  explicit HttpServer(Handler handler, Tls tls = Tls::kNone, const char* address = "127.0.0.1");
  ~HttpServer();

  std::string Host() const;                                        // "127.0.0.1:PORT"
  std::string Url() const;                                         // "http://127.0.0.1:PORT"
  const std::string& Certificate() const { return certificate_; }  // PEM, for clients to trust
  std::vector<Request> Requests() const;                           // all so far
  size_t Count(const std::string& part) const;                     // requests whose target holds `part`

 private:
  struct Stream;
  void Accept();
  void Serve(int fd);
  bool Answer(Stream& stream);

  Handler handler_;
  sys::UniqueFd listener_;
  sys::UniqueFd stop_;  // eventfd
  std::string address_;
  int port_ = 0;
  std::string certificate_;
  ssl_ctx_st* ssl_ = nullptr;
  mutable std::mutex mutex_;  // guards the rest, and calls of handler_
  std::vector<Request> requests_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// A port on which nothing listens.
int ClosedPort();

}  // namespace crisp::image::testing
