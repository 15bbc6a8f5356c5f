// One HTTP exchange with everything a registry client must not forget: it ends when ctx ends (at once, not at the next
// tick), when the transfer stalls, or when a consumer says so; it never follows a redirect and never sends a header
// that was not given to it. libcurl, HTTP/1.1: one connection carries one transfer at a time here, so HTTP/2 would
// bring nothing.
// The program must ignore SIGPIPE: OpenSSL writes to sockets by write(2).
// Threading: HttpPool from any thread; an exchange blocks its thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"

namespace crisp::image {

struct TlsOptions {
  std::vector<std::string> ca_files;  // trusted besides the system's roots
  std::string cert_file;              // client certificate, PEM; empty: none
  std::string key_file;               // empty: in cert_file
  bool skip_verify = false;
};

struct HttpRequest {
  std::string method = "GET";        // GET, HEAD, POST
  std::string url;                   // http or https, without userinfo
  std::vector<std::string> headers;  // "Name: value"
  std::string body;                  // of a POST
  TlsOptions tls;
  std::chrono::milliseconds connect_timeout{30'000};
};

struct HttpHead {
  int status = 0;
  std::multimap<std::string, std::string> headers;  // names in lower case
  std::optional<std::chrono::seconds> retry_after;
  std::string_view Get(const std::string& lower_name) const;  // first value, or empty
  bool Success() const { return status >= 200 && status < 300; }
};

// Who takes a successful (2xx) answer. An error ends the exchange as kHandler. May be empty.
struct HttpHandler {
  std::function<Result<>(const HttpHead&)> on_head;   // once, before the first byte
  std::function<Result<>(std::string_view)> on_body;  // blocks the connection while it runs: back-pressure
};

enum class HttpEnd {
  kAnswered,     // an answer, whatever its status
  kUnreachable,  // no connection: DNS, refused, timeout, broken handshake
  kTls,          // the peer is not who it should be, or our TLS files are bad: waiting does not help
  kBroken,       // the connection ended before the answer did
  kStalled,      // too few bytes in a stall window
  kContext,      // ctx ended; error has the code
  kHandler,      // the handler's error
};

struct HttpResult {
  HttpEnd end = HttpEnd::kAnswered;
  HttpHead head;
  std::string body;            // of an answer without success, cut to 64 KiB
  std::optional<Error> error;  // unless kAnswered; names the host, not the URL
};

struct HttpLimits {
  std::chrono::milliseconds stall_window{60'000};
  uint64_t stall_bytes_min = 60u * 1024;
};

class HttpPool {
 public:
  explicit HttpPool(HttpLimits limits);
  ~HttpPool();
  HttpResult Do(const Ctx& ctx, const HttpRequest& request, const HttpHandler& handler = {});

 private:
  struct Connection;  // a libcurl easy handle in a multi handle of its own, which keeps the TCP connection
  std::unique_ptr<Connection> Take(const std::string& origin);

  const HttpLimits limits_;
  // Idle connections by origin. No lock order: held for a look-up only.
  Synchronized<std::multimap<std::string, std::unique_ptr<Connection>>> idle_;
};

// URLs, by libcurl's parser, so that what we judge is what is connected to.
struct UrlParts {
  std::string scheme;          // "http" or "https"
  std::string host;            // without port, IPv6 in brackets, lower case
  std::string port;            // always set
  std::string path;            // with query
  std::string Origin() const;  // "https://host:port"
};
// kInvalidArgument unless it is an absolute http(s) URL. Userinfo and fragment are dropped.
Result<UrlParts> ParseUrl(std::string_view url);
// `location` relative to `base`.
Result<std::string> ResolveUrl(const std::string& base, std::string_view location);
std::string UrlText(const UrlParts& parts);
std::string PercentEncode(std::string_view text);
// The host (a port may follow) is localhost or a loopback address.
bool IsLoopback(std::string_view host);

}  // namespace crisp::image
