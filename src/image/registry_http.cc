#include "image/registry_http.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

using std::chrono::milliseconds;

constexpr size_t kErrorBodyMax = 64 << 10;
constexpr size_t kHeadersMax = 128 << 10;
constexpr size_t kHeaderCountMax = 500;
constexpr size_t kCaFileMax = 4 << 20;

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using UrlHandle = std::unique_ptr<CURLU, FreeUrl>;

void InitCurl() {
  static std::once_flag once;
  std::call_once(once, [] { CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// Decides from bytes per window whether a transfer stalls. The time that the consumer took is not the network's.
class StallWatch {
 public:
  explicit StallWatch(const HttpLimits& limits) : limits_(limits) {}
  void Bytes(size_t n) { bytes_ += n; }
  void Consumer(Clock::duration took) { start_ += took; }
  bool Stalled() {
    if (Clock::now() - start_ < limits_.stall_window) return false;
    if (bytes_ < limits_.stall_bytes_min) return true;
    start_ = Clock::now();
    bytes_ = 0;
    return false;
  }
  int LeftMs() const {
    auto left = std::chrono::ceil<milliseconds>(start_ + limits_.stall_window - Clock::now()).count();
    return left < 0 ? 0 : static_cast<int>(std::min<int64_t>(left, 60'000));
  }

 private:
  const HttpLimits& limits_;
  Clock::time_point start_ = Clock::now();
  uint64_t bytes_ = 0;
};

// What libcurl's callbacks work on during one exchange.
struct Exchange {
  const Ctx& ctx;
  const HttpHandler& handler;
  CURL* easy;
  StallWatch stall;
  HttpResult result;
  size_t header_bytes = 0;
  bool body_began = false;
  bool head_given = false;
  std::optional<Error> handler_error;
  std::string too_much;  // why we broke off
};

// Tells the handler about the head, once. False: it wants no more.
bool GiveHead(Exchange& x) {
  if (x.head_given || !x.result.head.Success()) return true;
  x.head_given = true;
  if (!x.handler.on_head) return true;
  Result<> ok = x.handler.on_head(x.result.head);
  if (!ok) x.handler_error = std::move(ok).error();
  return !x.handler_error;
}

size_t OnHeader(char* data, size_t one, size_t size, void* user) {
  Exchange& x = *static_cast<Exchange*>(user);
  std::string_view line(data, size * one);
  x.stall.Bytes(line.size());
  if (x.body_began) return line.size();  // trailers: nothing of ours is in them
  x.header_bytes += line.size();
  if (x.header_bytes > kHeadersMax || x.result.head.headers.size() > kHeaderCountMax) {
    x.too_much = "headers without end";
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // the next answer after a 1xx or a proxy's CONNECT
    x.result.head = {};
    size_t space = line.find(' ');
    x.result.head.status = ParseInt<int>(line.substr(std::min(space, line.size() - 1) + 1).substr(0, 3)).value_or(0);
    return line.size();
  }
  size_t colon = line.find(':');
  if (colon != std::string_view::npos) {
    x.result.head.headers.emplace(Lower(line.substr(0, colon)), Trim(line.substr(colon + 1)));
  }
  return line.size();
}

size_t OnBody(char* data, size_t one, size_t size, void* user) {
  Exchange& x = *static_cast<Exchange*>(user);
  std::string_view bytes(data, size * one);
  x.stall.Bytes(bytes.size());
  x.body_began = true;
  if (!x.result.head.Success()) {
    x.result.body.append(bytes.substr(0, kErrorBodyMax - std::min(kErrorBodyMax, x.result.body.size())));
    if (x.result.body.size() < kErrorBodyMax) return bytes.size();
    x.too_much = "an error page without end";
    return 0;
  }
  Clock::time_point start = Clock::now();
  bool go_on = GiveHead(x);
  if (go_on && x.handler.on_body) {
    Result<> taken = x.handler.on_body(bytes);
    if (!taken) x.handler_error = std::move(taken).error();
  }
  x.stall.Consumer(Clock::now() - start);
  return x.handler_error || !x.ctx.Check() ? 0 : bytes.size();
}

HttpEnd EndOf(CURLcode code) {
  switch (code) {
    case CURLE_OK: return HttpEnd::kAnswered;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // only the connect timeout is set
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PROXY: return HttpEnd::kUnreachable;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH: return HttpEnd::kTls;
    default: return HttpEnd::kBroken;
  }
}

// All extra roots in one PEM. libcurl replaces its default bundle by it but keeps the default directory of hashed roots
// (/etc/ssl/certs), so the system's are trusted still.
Result<std::string> ReadRoots(const TlsOptions& tls) {
  std::string pem;
  for (const std::string& path : tls.ca_files) {
    pem += TRY(sys::ReadFile(path, kCaFileMax));
    pem += '\n';
  }
  return pem;
}

void SetTls(CURL* easy, const TlsOptions& tls, const std::string& roots) {
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
  if (!roots.empty()) {
    curl_blob blob{.data = const_cast<char*>(roots.data()), .len = roots.size(), .flags = CURL_BLOB_COPY};
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
  }
  if (!tls.cert_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, tls.cert_file.c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, (tls.key_file.empty() ? tls.cert_file : tls.key_file).c_str());
  }
  if (tls.skip_verify) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
}

// libcurl takes the proxy from http_proxy, https_proxy and no_proxy, but HTTP_PROXY in capitals not (a CGI trap that a
// daemon does not have); units written for other runtimes set that one. Loopback goes direct, as it does in Go.
void SetProxy(CURL* easy, const UrlParts& url) {
  if (IsLoopback(url.host)) {
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  } else if (url.scheme == "http" && std::getenv("http_proxy") == nullptr) {
    if (const char* proxy = std::getenv("HTTP_PROXY")) curl_easy_setopt(easy, CURLOPT_PROXY, proxy);
  }
}

std::string UrlPart(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
  std::string out = text;
  curl_free(text);
  return out;
}

Result<UrlHandle> OpenUrl(std::string_view text) {
  InitCurl();
  UrlHandle url(curl_url());
  CHECK(url != nullptr);
  std::string copy(text);
  if (text.find_first_of(std::string_view(" \t\r\n\0", 5)) != std::string_view::npos ||
      curl_url_set(url.get(), CURLUPART_URL, copy.c_str(), 0) != CURLUE_OK) {
    return Error(Code::kInvalidArgument, "not a URL");
  }
  std::string scheme = UrlPart(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return Error(Code::kInvalidArgument, "not an http or https URL");
  for (CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_FRAGMENT}) {
    curl_url_set(url.get(), part, nullptr, 0);
  }
  return url;
}

}  // namespace

struct HttpPool::Connection {
  Connection() : multi(curl_multi_init()), easy(curl_easy_init()) { CHECK(multi != nullptr && easy != nullptr); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
  std::optional<CURLcode> Run(Exchange& x);
  CURLM* multi;
  CURL* easy;
};

// Drives the transfer to its end, or to the end of ctx or of our patience (then nothing is returned and x.result.end
// and the error are set).
std::optional<CURLcode> HttpPool::Connection::Run(Exchange& x) {
  std::stop_callback wake(x.ctx.stop(), [this] { curl_multi_wakeup(multi); });
  while (true) {
    int running = 0;
    CHECK(curl_multi_perform(multi, &running) == CURLM_OK);
    if (running == 0) {
      int left = 0;
      CURLMsg* message = curl_multi_info_read(multi, &left);
      return message != nullptr && message->msg == CURLMSG_DONE ? message->data.result : CURLE_RECV_ERROR;
    }
    if (Result<> ok = x.ctx.Check(); !ok) {
      x.result.end = HttpEnd::kContext;
      x.result.error = std::move(ok).error();
      return std::nullopt;
    }
    if (x.stall.Stalled()) {
      x.result.end = HttpEnd::kStalled;
      x.result.error = Error(Code::kUnavailable, "the transfer stalled");
      return std::nullopt;
    }
    int timeout = std::min(x.ctx.PollTimeoutMs(), x.stall.LeftMs());
    CHECK(curl_multi_poll(multi, nullptr, 0, timeout, nullptr) == CURLM_OK);
  }
}

HttpPool::HttpPool(HttpLimits limits) : limits_(limits) { InitCurl(); }
HttpPool::~HttpPool() = default;

std::unique_ptr<HttpPool::Connection> HttpPool::Take(const std::string& origin) {
  auto idle = idle_.Lock();
  auto found = idle->find(origin);
  if (found == idle->end()) return std::make_unique<Connection>();
  std::unique_ptr<Connection> connection = std::move(found->second);
  idle->erase(found);
  return connection;
}

HttpResult HttpPool::Do(const Ctx& ctx, const HttpRequest& request, const HttpHandler& handler) {
  HttpResult failed;
  auto fail = [&](HttpEnd end, Error error) {
    failed.end = end;
    failed.error = std::move(error);
    return std::move(failed);
  };
  if (Result<> ok = ctx.Check(); !ok) return fail(HttpEnd::kContext, std::move(ok).error());
  Result<UrlParts> url = ParseUrl(request.url);
  if (!url) return fail(HttpEnd::kTls, std::move(url).error());
  Result<std::string> roots = ReadRoots(request.tls);
  if (!roots) return fail(HttpEnd::kTls, std::move(roots).error().As(Code::kFailedPrecondition));

  std::unique_ptr<Connection> connection = Take(url->Origin());
  CURL* easy = connection->easy;
  curl_easy_reset(easy);  // options only: the connection stays
  Exchange x{.ctx = ctx, .handler = handler, .easy = easy, .stall = StallWatch(limits_)};
  std::unique_ptr<curl_slist, FreeList> headers;
  for (const std::string& header : request.headers) {
    headers.reset(curl_slist_append(headers.release(), header.c_str()));
  }
  headers.reset(curl_slist_append(headers.release(), "Expect:"));
  std::string text = UrlText(*url);
  char error_buffer[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(easy, CURLOPT_URL, text.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a cancelled call does not wait for getaddrinfo
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_buffer);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &x);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &x);
  if (request.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  if (request.method == "POST") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request.body.c_str());
  }
  SetTls(easy, request.tls, *roots);
  SetProxy(easy, *url);

  CHECK(curl_multi_add_handle(connection->multi, easy) == CURLM_OK);
  std::optional<CURLcode> code = connection->Run(x);
  curl_off_t retry_after = 0;
  curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
  if (retry_after > 0) x.result.head.retry_after = std::chrono::seconds(retry_after);
  curl_multi_remove_handle(connection->multi, easy);
  if (code == CURLE_OK) {
    GiveHead(x);  // an empty body
    idle_.Lock()->emplace(url->Origin(), std::move(connection));
  }
  HttpResult& result = x.result;
  if (x.handler_error) {
    result.end = HttpEnd::kHandler;
    result.error = std::move(*x.handler_error);
  } else if (Result<> ok = ctx.Check(); code && *code == CURLE_WRITE_ERROR && !ok) {
    result.end = HttpEnd::kContext;
    result.error = std::move(ok).error();
  } else if (code) {
    result.end = EndOf(*code);
    std::string why = !x.too_much.empty() ? x.too_much : error_buffer[0] ? error_buffer : curl_easy_strerror(*code);
    if (result.end != HttpEnd::kAnswered) result.error = Error(Code::kUnavailable, std::move(why));
  }
  if (result.error && result.end != HttpEnd::kHandler && result.end != HttpEnd::kContext) {
    result.error = std::move(*result.error).Context(url->Origin());
  }
  return std::move(x.result);
}

std::string_view HttpHead::Get(const std::string& lower_name) const {
  auto found = headers.find(lower_name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::string UrlParts::Origin() const { return StrCat(scheme, "://", host, ":", port); }

Result<UrlParts> ParseUrl(std::string_view text) {
  UrlHandle url = TRY(OpenUrl(text));
  UrlParts out;
  out.scheme = UrlPart(url.get(), CURLUPART_SCHEME);
  out.host = Lower(UrlPart(url.get(), CURLUPART_HOST));
  out.port = UrlPart(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  out.path = UrlPart(url.get(), CURLUPART_PATH);
  if (std::string query = UrlPart(url.get(), CURLUPART_QUERY); !query.empty()) out.path += StrCat("?", query);
  if (out.host.empty()) return Error(Code::kInvalidArgument, "a URL without host");
  return out;
}

Result<std::string> ResolveUrl(const std::string& base, std::string_view location) {
  UrlHandle url = TRY(OpenUrl(base));
  std::string copy(location);
  if (location.empty() || location.find_first_of(std::string_view(" \t\r\n\0", 5)) != std::string_view::npos ||
      curl_url_set(url.get(), CURLUPART_URL, copy.c_str(), 0) != CURLUE_OK) {
    return Error(Code::kInvalidArgument, "not a URL");
  }
  UrlParts parts = TRY(ParseUrl(UrlPart(url.get(), CURLUPART_URL)));
  return UrlText(parts);
}

std::string UrlText(const UrlParts& parts) { return StrCat(parts.Origin(), parts.path); }

std::string PercentEncode(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::strchr("-._~", c);
    if (plain && c != '\0') {
      out += c;
    } else {
      auto byte = static_cast<unsigned char>(c);
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

bool IsLoopback(std::string_view host) {
  if (host.starts_with('[')) {
    host = host.substr(1, host.find(']') - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  std::string text(host);
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, text.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return Lower(text) == "localhost";
}

}  // namespace crisp::image
