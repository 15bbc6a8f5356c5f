#include "image/testing/real_registry.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "image/testing/fake_registry.h"
#include "image/testing/http_server.h"

namespace crisp::image::testing {

namespace {

constexpr char kProgram[] = "/usr/bin/docker-registry";
// crypt(3)'s bcrypt of "p4ssword"
constexpr char kPasswords[] = "user:$2y$05$abcdefghijklmnopqrstuu2hRFrp4I066MRb3RN97889YsHW2pPHq\n";

// Reads the program's log until `text` comes. False: it ended before.
bool ReadUntil(int fd, std::string_view text) {
  std::string log;
  char chunk[4096];
  while (log.find(text) == std::string::npos) {
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n <= 0) return false;
    log.append(chunk, static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

std::unique_ptr<RealRegistry> RealRegistry::Start(Access access) {
  if (!sys::Exists(kProgram)) return nullptr;
  std::unique_ptr<RealRegistry> out(new RealRegistry());
  const std::string& dir = out->dir_.path();
  out->port_ = ClosedPort();
  out->password_ = access == Access::kPassword;
  std::string config = StrCat("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: ", dir,
                              "/data}}\nhttp: {addr: \"", out->Host(), "\"}\n");
  if (out->password_) {
    out->dir_.Write("htpasswd", kPasswords);
    config += StrCat("auth: {htpasswd: {realm: test, path: ", dir, "/htpasswd}}\n");
  }
  out->dir_.Write("config.yml", config);
  Result<sys::Pipe> pipe = sys::MakePipe();
  CHECK(pipe.has_value());
  sys::Command command{.program = kProgram, .args = {"serve", dir + "/config.yml"}};
  command.fds.emplace(2, pipe->write.borrow());
  Result<sys::Process> process = sys::Spawn(command);
  CHECK(process.has_value());
  pipe->write.Reset();
  out->log_ = std::move(pipe->read);
  out->process_.emplace(std::move(*process));
  EXPECT_TRUE(ReadUntil(out->log_.get(), "listening on")) << "docker-registry ended";
  return out;
}

RealRegistry::~RealRegistry() {
  if (!process_) return;
  EXPECT_TRUE(process_->Signal(SIGKILL));
  EXPECT_TRUE(process_->Wait(Ctx().WithTimeout(std::chrono::seconds(10))));
}

std::string RealRegistry::Host() const { return StrCat("127.0.0.1:", port_); }

RealRegistry::Answer RealRegistry::Send(const std::string& method, const std::string& target, std::string_view type,
                                        std::string_view body) {
  sys::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in addr{};
  addr.sin_family = AF_INET;
  addr.sin_port = htons(static_cast<uint16_t>(port_));
  addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&addr), sizeof addr), 0);
  std::string head =
      StrCat(method, " ", target, " HTTP/1.1\r\nHost: ", Host(), "\r\nConnection: close\r\nContent-Type: ", type,
             "\r\nContent-Length: ", body.size(), "\r\n");
  if (password_) head += "Authorization: Basic dXNlcjpwNHNzd29yZA==\r\n";
  EXPECT_TRUE(sys::WriteAll(fd, StrCat(head, "\r\n")));
  EXPECT_TRUE(sys::WriteAll(fd, body));
  Result<std::string> text = sys::ReadAll(fd, 1 << 20);
  EXPECT_TRUE(text);
  Answer out;
  out.status = ParseInt<int>(std::string_view(*text).substr(9, 3)).value_or(0);
  size_t end = text->find("\r\n\r\n");
  out.body = text->substr(std::min(end, text->size()));
  constexpr std::string_view kLocation = "\r\nLocation: ";
  if (size_t at = text->find(kLocation); at < end) {
    at += kLocation.size();
    out.location = text->substr(at, text->find("\r\n", at) - at);
    out.location.erase(0, out.location.find("/v2/"));
  }
  return out;
}

std::string RealRegistry::PushBlob(const std::string& repository, std::string_view bytes) {
  std::string digest = Digest256(bytes);
  Answer begun = Send("POST", StrCat("/v2/", repository, "/blobs/uploads/"), "application/octet-stream", "");
  EXPECT_EQ(begun.status, 202) << begun.body;
  Answer done = Send("PUT", StrCat(begun.location, "&digest=", digest), "application/octet-stream", bytes);
  EXPECT_EQ(done.status, 201) << done.body;
  return digest;
}

std::string RealRegistry::PushManifest(const std::string& repository, const std::string& tag, std::string_view bytes,
                                       std::string_view type) {
  Answer done = Send("PUT", StrCat("/v2/", repository, "/manifests/", tag), type, bytes);
  EXPECT_EQ(done.status, 201) << done.body;
  return Digest256(bytes);
}

}  // namespace crisp::image::testing
