#include "image/testing/http_server.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/strings.h"

namespace crisp::image::testing {

namespace {

sys::UniqueFd Listen(const char* address, int& port, bool listening) {
  sys::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in addr{};
  addr.sin_family = AF_INET;
  CHECK(inet_pton(AF_INET, address, &addr.sin_addr) == 1);
  CHECK(bind(fd.get(), reinterpret_cast<sockaddr*>(&addr), sizeof addr) == 0);
  socklen_t size = sizeof addr;
  CHECK(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&addr), &size) == 0);
  port = ntohs(addr.sin_port);
  if (listening) CHECK(listen(fd.get(), 64) == 0);
  return fd;
}

// A new key with a certificate for 127.0.0.1 that it signed itself.
std::string UseSelfSigned(SSL_CTX* context) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  X509_set_version(cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_set_pubkey(cert, key);
  X509_NAME* name = X509_get_subject_name(cert);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  X509_set_issuer_name(cert, name);
  for (auto [nid, value] :
       {std::pair{NID_subject_alt_name, "IP:127.0.0.1,IP:127.0.0.2"}, std::pair{NID_basic_constraints, "CA:TRUE"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(cert, key, EVP_sha256());
  CHECK(SSL_CTX_use_certificate(context, cert) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1);
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(memory, cert);
  char* data = nullptr;
  long size = BIO_get_mem_data(memory, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(memory);
  X509_free(cert);
  EVP_PKEY_free(key);
  return pem;
}

}  // namespace

// One connection, plain or TLS, that ends when the server stops.
struct HttpServer::Stream {
  int fd;
  int stop;
  SSL* ssl = nullptr;
  std::string buffer;

  bool Wait() const {
    pollfd fds[] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
    return poll(fds, 2, -1) > 0 && fds[1].revents == 0;
  }
  bool Fill() {
    char chunk[16384];
    if ((ssl == nullptr || SSL_pending(ssl) == 0) && !Wait()) return false;
    ssize_t n = ssl != nullptr ? SSL_read(ssl, chunk, sizeof chunk) : recv(fd, chunk, sizeof chunk, 0);
    if (n > 0) buffer.append(chunk, static_cast<size_t>(n));
    return n > 0;
  }
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = ssl != nullptr ? SSL_write(ssl, bytes.data(), static_cast<int>(bytes.size()))
                                 : send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
};

std::string Request::Header(const std::string& name) const {
  auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HttpServer::HttpServer(Handler handler, Tls tls, const char* address)
    : handler_(std::move(handler)), stop_(eventfd(0, EFD_CLOEXEC)), address_(address) {
  signal(SIGPIPE, SIG_IGN);  // as crispd does: TLS writes to closed connections raise it on both sides
  listener_ = Listen(address, port_, true);
  if (tls == Tls::kSelfSigned) {
    ssl_ = SSL_CTX_new(TLS_server_method());
    certificate_ = UseSelfSigned(ssl_);
  }
  acceptor_ = std::thread([this] { Accept(); });
}

HttpServer::~HttpServer() {
  uint64_t one = 1;
  CHECK(write(stop_.get(), &one, sizeof one) == sizeof one);
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
  SSL_CTX_free(ssl_);
}

std::string HttpServer::Host() const { return StrCat(address_, ":", port_); }
std::string HttpServer::Url() const { return StrCat(ssl_ != nullptr ? "https://" : "http://", Host()); }

std::vector<Request> HttpServer::Requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

size_t HttpServer::Count(const std::string& part) const {
  size_t count = 0;
  for (const Request& request : Requests()) count += request.target.find(part) != std::string::npos;
  return count;
}

void HttpServer::Accept() {
  while (true) {
    pollfd fds[] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 || fds[1].revents != 0) return;
    int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) threads_.emplace_back([this, fd] { Serve(fd); });
  }
}

void HttpServer::Serve(int fd) {
  sys::UniqueFd owner(fd);
  Stream stream{fd, stop_.get()};
  timeval send_timeout{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_timeout, sizeof send_timeout);
  bool ready = true;
  if (ssl_ != nullptr) {
    stream.ssl = SSL_new(ssl_);
    SSL_set_fd(stream.ssl, fd);
    ready = stream.Wait() && SSL_accept(stream.ssl) == 1;
    if (!ready) {  // what Go's servers say to plain http on a TLS port
      constexpr std::string_view kNoTls =
          "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
      send(fd, kNoTls.data(), kNoTls.size(), MSG_NOSIGNAL);
      shutdown(fd, SHUT_WR);
    }
  }
  while (ready && Answer(stream)) {
  }
  SSL_free(stream.ssl);
}

// Reads one request and answers it; false: the connection is to be closed.
bool HttpServer::Answer(Stream& stream) {
  size_t end;
  while ((end = stream.buffer.find("\r\n\r\n")) == std::string::npos) {
    if (!stream.Fill()) return false;
  }
  Request request;
  std::string head = stream.buffer.substr(0, end);
  stream.buffer.erase(0, end + 4);
  std::vector<std::string_view> lines = Split(head, '\n');
  std::vector<std::string_view> words = SplitWords(lines[0]);
  if (words.size() < 2) return false;
  request.method = words[0];
  request.target = words[1];
  size_t question = request.target.find('?');
  request.path = request.target.substr(0, question);
  if (question != std::string::npos) request.query = request.target.substr(question + 1);
  for (size_t i = 1; i < lines.size(); ++i) {
    size_t colon = lines[i].find(':');
    std::string name(lines[i].substr(0, colon));
    for (char& c : name) c = static_cast<char>(tolower(c));
    request.headers[name] = Trim(lines[i].substr(colon + 1));
  }
  size_t length = ParseInt<size_t>(request.Header("content-length")).value_or(0);
  while (stream.buffer.size() < length) {
    if (!stream.Fill()) return false;
  }
  request.body = stream.buffer.substr(0, length);
  stream.buffer.erase(0, length);

  Response response;
  {
    std::lock_guard lock(mutex_);
    requests_.push_back(request);
    response = handler_(request);
  }
  std::string out = StrCat("HTTP/1.1 ", response.status, " X\r\n");
  bool has_length = false;
  for (const auto& [name, value] : response.headers) {
    out += StrCat(name, ": ", value, "\r\n");
    has_length = has_length || name == "Content-Length";
  }
  if (response.chunked) {
    out += "Transfer-Encoding: chunked\r\n";
  } else if (!has_length) {
    out += StrCat("Content-Length: ", response.body.size(), "\r\n");
  }
  out += "\r\n";
  std::string_view body = response.body;
  if (response.cut) body = body.substr(0, *response.cut);
  if (request.method != "HEAD" && response.chunked && !body.empty()) {
    char size[20];
    snprintf(size, sizeof size, "%zx\r\n", body.size());
    out += StrCat(size, body, "\r\n");
  } else if (request.method != "HEAD") {
    out += body;
  }
  if (response.chunked && !response.cut) out += "0\r\n\r\n";
  if (!stream.Send(out)) return false;
  if (response.hang) {
    while (stream.Wait() && stream.Fill()) {
    }
    return false;
  }
  return !response.cut;
}

int ClosedPort() {
  int port = 0;
  Listen("127.0.0.1", port, false);
  return port;
}

}  // namespace crisp::image::testing
