#include "conformance/registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "codec/websocket_channels.h"

namespace crisp::conformance {
namespace {

constexpr size_t kHeadBytesMax = 64 << 10;
constexpr char kTlsHandshake = 22;  // type of the first record of a TLS connection (RFC 8446 5.1)

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  return lower;
}

// "crisptest/NAME/more" → NAME
std::string ImageName(const std::string& repository) {
  auto parts = Split(repository, '/');
  return parts.size() >= 2 && parts[0] == "crisptest" ? std::string(parts[1]) : "";
}

}  // namespace

Result<> Registry::Start(const std::string& address) {
  constexpr std::string_view kLoopback = "127.0.0.1:";
  auto port = ParseInt<uint16_t>(std::string_view(address).substr(std::min(address.size(), kLoopback.size())));
  if (!address.starts_with(kLoopback) || !port) {
    return Error(Code::kInvalidArgument, StrCat("the registry listens on 127.0.0.1:PORT, not on ", Quote(address)));
  }
  listener_ = sys::UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int on = 1;
  (void)setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // a fixed port, run after run
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(*port);
  socklen_t length = sizeof name;
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
      listen(listener_.get(), 128) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&name), &length) != 0) {
    return Errno(errno, StrCat("listen on ", address, " for the registry"));
  }
  port_ = ntohs(name.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
  return {};
}

Registry::~Registry() {
  stopping_ = true;
  if (listener_.ok()) shutdown(listener_.get(), SHUT_RDWR);
  if (acceptor_.joinable()) acceptor_.join();
  {
    std::lock_guard lock(mutex_);
    for (int fd : open_) shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
}

std::string Registry::host() const { return StrCat("127.0.0.1:", port_); }

void Registry::Accept() {
  while (!stopping_) {
    int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::lock_guard lock(mutex_);
    open_.insert(fd);
    threads_.emplace_back([this, fd] { Serve(fd); });
  }
}

void Registry::Serve(int fd) {
  std::string input;
  char buffer[16 << 10];
  while (!stopping_) {
    size_t end;
    while ((end = input.find("\r\n\r\n")) == std::string::npos && input.size() < kHeadBytesMax) {
      ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0) break;
      input.append(buffer, static_cast<size_t>(got));
      // Who tries TLS first is to learn at once that there is none: clients fall back when they are answered in HTTP.
      if (input[0] == kTlsHandshake) break;
    }
    if (end == std::string::npos) {
      if (input.starts_with(kTlsHandshake)) SendAll(fd, "HTTP/1.1 400 -\r\nConnection: close\r\n\r\n");
      break;
    }
    std::string head = input.substr(0, end);
    input.erase(0, end + 4);
    Request request;
    auto lines = Split(head, '\n');
    auto words = SplitWords(lines[0]);
    if (words.size() < 2) break;
    request.method = words[0];
    request.path = std::string(words[1].substr(0, words[1].find('?')));
    for (size_t i = 1; i < lines.size(); ++i) {
      size_t colon = lines[i].find(':');
      if (colon != std::string::npos && Lower(lines[i].substr(0, colon)) == "authorization") {
        request.authorization = Trim(lines[i].substr(colon + 1));
      }
    }
    Response response = Answer(request);
    if (response.hang) {  // until the client gives up, or we end
      while (recv(fd, buffer, sizeof buffer, 0) > 0) {
      }
      break;
    }
    std::string digest = response.digest.empty() ? "" : StrCat("Docker-Content-Digest: ", response.digest, "\r\n");
    std::string text = StrCat("HTTP/1.1 ", response.status, " -\r\nContent-Type: ", response.type,
                              "\r\nContent-Length: ", response.body.size(), "\r\n", digest, response.extra, "\r\n");
    if (!SendAll(fd, text)) break;
    if (request.method != "HEAD" && !SendAll(fd, response.body)) break;
  }
  std::lock_guard lock(mutex_);
  open_.erase(fd);
  close(fd);
}

Registry::Response Registry::Answer(const Request& request) {
  const Response who = {
      .status = 401, .body = "who are you?", .extra = "WWW-Authenticate: Basic realm=\"crisptest\"\r\n"};
  // As the public registries, which hold private images too: some clients learn only here how they can say who they
  // are.
  if (request.path == "/v2/" || request.path == "/v2") {
    return request.authorization.empty() ? who : Response{.body = "{}"};
  }
  size_t manifests = request.path.find("/manifests/"), blobs = request.path.find("/blobs/");
  size_t split = manifests != std::string::npos ? manifests : blobs;
  if (!request.path.starts_with("/v2/") || split == std::string::npos) return {.status = 404};
  std::string repository = request.path.substr(4, split - 4), name = ImageName(repository);
  if (name == "hang") return {.hang = true};
  if (name == "unavailable") return {.status = 503, .body = "come back later"};
  if (name == "private" &&
      request.authorization != StrCat("Basic ", codec::EncodeBase64(StrCat(kUser, ":", kPassword)))) {
    return who;
  }
  if (manifests != std::string::npos) return Manifest(repository, request.path.substr(manifests + 11));
  return Blob(repository, request.path.substr(blobs + 7));
}

Registry::Response Registry::Manifest(const std::string& repository, const std::string& reference) {
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  std::string name = ImageName(repository);
  if (name == "small" || name == "tags") {
    std::lock_guard lock(mutex_);
    if (auto known = made_manifests_.find(reference); known != made_manifests_.end()) {
      return {.type = type, .body = known->second, .digest = reference};
    }
    BuiltImage image = images_.Small(name == "tags" ? repository : StrCat(repository, ":", reference));
    made_blobs_[image.config_digest] = image.config;
    made_manifests_[image.manifest_digest] = image.manifest;
    return {.type = type, .body = image.manifest, .digest = image.manifest_digest};
  }
  auto image = images_.images.find(name);
  if (image == images_.images.end()) {
    return {.status = 404,
            .type = "application/json",
            .body = R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such image"}]})"};
  }
  if (reference.starts_with("sha256:") && reference != image->second.manifest_digest) return {.status = 404};
  return {.type = type, .body = image->second.manifest, .digest = image->second.manifest_digest};
}

Registry::Response Registry::Blob(const std::string& repository, const std::string& digest) {
  std::string body;
  {
    std::lock_guard lock(mutex_);
    if (auto made = made_blobs_.find(digest); made != made_blobs_.end()) body = made->second;
  }
  if (auto known = images_.blobs.find(digest); body.empty() && known != images_.blobs.end()) body = known->second;
  if (body.empty()) return {.status = 404};
  // One bit of a layer, not of a configuration (which begins with a brace).
  if (ImageName(repository) == "broken" && body[0] != '{') body.back() = static_cast<char>(body.back() ^ 1);
  return {.type = "application/octet-stream", .body = std::move(body), .digest = digest};
}

}  // namespace crisp::conformance
