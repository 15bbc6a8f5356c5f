#include "stream/testing/client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"

namespace crisp::stream {
namespace {

constexpr int kPatienceSeconds = 60;  // of a hang only

}  // namespace

RawClient::RawClient(int port) {
  fd_ = sys::UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
  timeval bound{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  (void)setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
  (void)setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  int on = 1;
  (void)setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool RawClient::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string RawClient::Read(bool* reset) {
  if (reset != nullptr) *reset = false;
  if (!early_.empty()) return std::exchange(early_, {});
  std::string buffer(64 << 10, '\0');
  ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && reset != nullptr) *reset = true;
  buffer.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return buffer;
}

std::string RawClient::ReadHead() {
  std::string head;
  size_t end;
  while ((end = head.find("\r\n\r\n")) == std::string::npos) {
    std::string more = Read();
    if (more.empty()) return head;
    head += more;
  }
  early_ = head.substr(end + 4);
  head.resize(end + 4);
  return head;
}

void RawClient::CloseWithReset() {
  linger now{.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd_.Reset();
}

void RawClient::EndWrite() { (void)shutdown(fd_.get(), SHUT_WR); }

std::string PathOf(const std::string& url) { return url.substr(url.find('/', url.find("//") + 2)); }

std::string StatusOf(int port, const std::string& path, const std::string& headers) {
  RawClient client(port);
  client.Write(StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n"));
  std::string head = client.ReadHead();
  return head.substr(0, head.find("\r\n"));
}

SpdyClient::SpdyClient(int port, const std::string& path, const std::string& protocol)
    : raw(port), session_(codec::SpdySession::Role::kClient, *this, {}) {
  std::string version = protocol.empty() ? "" : StrCat("X-Stream-Protocol-Version: ", protocol, "\r\n");
  raw.Write(
      StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", version, "\r\n"));
  head_ = raw.ReadHead();
}

void SpdyClient::Flush() { raw.Write(session_.TakeOutput()); }

uint32_t SpdyClient::Open(const codec::SpdyHeaders& headers) {
  uint32_t stream = session_.Open(headers);
  Flush();
  return stream;
}
void SpdyClient::Send(uint32_t stream, std::string_view bytes) {
  while (!bytes.empty()) {  // piece by piece, and reading what lies ready: the server need not buffer for us
    std::string_view piece = bytes.substr(0, 64 << 10);
    bytes.remove_prefix(piece.size());
    while (!piece.empty()) {
      size_t sent = session_.Send(stream, piece);
      piece.remove_prefix(sent);
      Flush();
      if (sent == 0 && !ReadSome()) return;
    }
    pollfd wait{raw.fd(), POLLIN, 0};
    if (poll(&wait, 1, 0) == 1 && !ReadSome()) return;
  }
}
void SpdyClient::End(uint32_t stream) {
  session_.End(stream);
  Flush();
}
void SpdyClient::Reset(uint32_t stream) {
  session_.Reset(stream, codec::SpdyStatus::kCancel);
  Flush();
}
void SpdyClient::OnData(uint32_t stream, std::string_view bytes) {
  data[stream] += bytes;
  session_.Consumed(stream, bytes.size());
}

bool SpdyClient::ReadSome() {
  if (over_) return false;
  std::string bytes = raw.Read(&over_by_reset_);
  if (bytes.empty() || !session_.Receive(bytes)) {
    over_ = true;
    return false;
  }
  Flush();
  return true;
}

void SpdyClient::ReadUntilEnded(const std::vector<uint32_t>& streams) {
  for (uint32_t stream : streams) {
    while (!ended[stream] && !was_reset[stream] && ReadSome()) {
    }
  }
}
void SpdyClient::ReadUntil(uint32_t stream, size_t bytes) {
  while (data[stream].size() < bytes && ReadSome()) {
  }
}
bool SpdyClient::ReadToEnd() {
  while (ReadSome()) {
  }
  return !over_by_reset_;
}

WebSocketClient::WebSocketClient(int port, const std::string& path, const std::string& protocol) : raw(port) {
  std::string offer = protocol.empty() ? "" : StrCat("Sec-WebSocket-Protocol: ", protocol, "\r\n");
  raw.Write(StrCat("GET ", path,
                   " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                   offer, "\r\n"));
  head_ = raw.ReadHead();
}

void WebSocketClient::Send(std::string_view message, int opcode) {
  std::string frame(1, static_cast<char>(0x80 | opcode));
  if (message.size() < 126) {
    frame.push_back(static_cast<char>(0x80 | message.size()));
  } else {
    frame.push_back(static_cast<char>(0x80 | 127));
    for (int shift = 56; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(message.size() >> shift & 0xff));
  }
  frame.append(4, '\0');  // the mask that changes nothing
  raw.Write(frame + std::string(message));
}

bool WebSocketClient::Fill(size_t bytes) {
  while (input_.size() < bytes) {
    std::string more = raw.Read();
    if (more.empty()) return false;
    input_ += more;
  }
  return true;
}

std::string WebSocketClient::Receive() {
  while (true) {
    if (!Fill(2)) return "";
    int opcode = input_[0] & 0x0f;
    size_t size = input_[1] & 0x7f, head = 2;
    size_t more = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (!Fill(head + more)) return "";
    if (more > 0) size = 0;
    for (size_t i = 0; i < more; ++i) size = size << 8 | static_cast<unsigned char>(input_[head + i]);
    head += more;
    if (!Fill(head + size)) return "";
    std::string payload = input_.substr(head, size);
    input_.erase(0, head + size);
    if (opcode == 8) {
      if (payload.size() >= 2) {
        close_code = static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]);
      }
      Send(payload.substr(0, 2), 8);
      return "";
    }
    if (opcode == 1 || opcode == 2 || opcode == 0) return payload;
  }
}

std::map<int, std::string> WebSocketClient::ReceiveAll() {
  std::map<int, std::string> channels;
  while (true) {
    std::string message = Receive();
    if (message.empty()) return channels;
    channels[static_cast<unsigned char>(message[0])] += message.substr(1);
  }
}

}  // namespace crisp::stream
