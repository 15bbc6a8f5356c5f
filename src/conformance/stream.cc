#include "conformance/stream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <map>
#include <set>

#include "base/strings.h"
#include "codec/spdy.h"
#include "sys/fd.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr const char* kTunnelProtocol = "SPDY/3.1+portforward.k8s.io";  // SPDY inside the messages of a WebSocket

struct Url {
  std::string host, path;
  int port = 80;
};

Result<Url> ParseUrl(const std::string& text) {
  std::string_view rest = text;
  size_t scheme = rest.find("://");
  if (scheme == std::string_view::npos) return Error(Code::kInvalidArgument, StrCat("not an URL: ", Quote(text)));
  rest.remove_prefix(scheme + 3);
  size_t slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  Url url{.path = slash == std::string_view::npos ? "/" : std::string(rest.substr(slash))};
  size_t colon = authority.rfind(':');
  auto port = colon == std::string_view::npos ? std::nullopt : ParseInt<int>(authority.substr(colon + 1));
  if (!port) return Error(Code::kInvalidArgument, StrCat("an URL without a port: ", Quote(text)));
  url.port = *port;
  url.host = authority.substr(0, colon);
  if (url.host.starts_with('[')) url.host = url.host.substr(1, url.host.size() - 2);
  return url;
}

// What SPDY runs over: a connection, or the messages of a WebSocket.
class Bytes {
 public:
  virtual ~Bytes() = default;
  virtual bool Write(std::string_view bytes) = 0;
  // "" at the end, or (and then `*late`) when nothing came in time.
  virtual std::string Read(bool* late) = 0;
};

class Connection : public Bytes {
 public:
  static Result<Connection> Open(const std::string& host, int port, milliseconds patience) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), StrCat(port).c_str(), &hints, &found) != 0 || found == nullptr) {
      return Error(Code::kInvalidArgument, StrCat("no address ", host));
    }
    Connection connection;
    connection.patience_ = patience;
    connection.fd_ = sys::UniqueFd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    timeval bound{.tv_sec = patience.count() / 1000 + 1, .tv_usec = 0};
    (void)setsockopt(connection.fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
    int connected = connect(connection.fd_.get(), found->ai_addr, found->ai_addrlen), why = errno, on = 1;
    freeaddrinfo(found);
    if (connected != 0) return Errno(why, StrCat("connect to ", host, ":", port));
    (void)setsockopt(connection.fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connection;
  }

  bool Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  std::string Read(bool* late) override {
    *late = false;
    if (!early_.empty()) return std::exchange(early_, {});
    pollfd wait{fd_.get(), POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(patience_.count())) != 1) {
      *late = true;
      return "";
    }
    std::string buffer(64 << 10, '\0');
    ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    buffer.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return buffer;
  }
  void EndWrite() { (void)shutdown(fd_.get(), SHUT_WR); }

  // Sends a request to upgrade and reads the answer's head.
  Result<std::string> Upgrade(const Url& url, const std::string& method, const std::string& headers) {
    Write(StrCat(method, " ", url.path, " HTTP/1.1\r\nHost: ", url.host, ":", url.port, "\r\nConnection: Upgrade\r\n",
                 headers, "\r\n"));
    std::string head;
    size_t end;
    while ((end = head.find("\r\n\r\n")) == std::string::npos) {
      bool late;
      std::string more = Read(&late);
      if (more.empty())
        return Error(Code::kDeadlineExceeded, StrCat("the streaming server does not answer: ", Quote(head)));
      head += more;
    }
    early_ = head.substr(end + 4);
    head.resize(end);
    if (!head.starts_with("HTTP/1.1 101")) {
      return Error(Code::kFailedPrecondition, StrCat("no upgrade: ", Quote(head.substr(0, head.find("\r\n")))));
    }
    return head;
  }

 private:
  Connection() = default;
  sys::UniqueFd fd_;
  milliseconds patience_{};
  std::string early_;
};

std::string HeaderOf(const std::string& head, std::string_view name) {
  for (std::string_view line : Split(head, '\n')) {
    size_t colon = line.find(':');
    if (colon == name.size() && strncasecmp(line.data(), name.data(), name.size()) == 0)
      return std::string(Trim(line.substr(colon + 1)));
  }
  return "";
}

constexpr int kBinary = 2, kClose = 8, kPing = 9, kPong = 10;  // opcodes

class WebSocket {
 public:
  static Result<std::string> Upgrade(Connection& connection, const Url& url, const std::string& protocol) {
    return connection.Upgrade(
        url, "GET",
        StrCat("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
               "Sec-WebSocket-Protocol: ",
               protocol, "\r\n"));
  }
  explicit WebSocket(Connection connection) : connection_(std::move(connection)) {}

  bool Send(std::string_view message, int opcode = kBinary) {
    std::string frame(1, static_cast<char>(0x80 | opcode));
    if (message.size() < 126) {
      frame.push_back(static_cast<char>(0x80 | message.size()));
    } else {
      frame.push_back(static_cast<char>(0x80 | 127));
      for (int shift = 56; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(message.size() >> shift & 0xff));
    }
    frame.append(4, '\0');  // the mask that changes nothing
    return connection_.Write(frame.append(message));
  }
  // What the next data frame that is not empty carries; "" at the end, or (and then `*late`) when nothing came in time.
  std::string Next(bool* late) {
    *late = false;
    while (true) {
      if (!Fill(2, late)) return "";
      int opcode = input_[0] & 0x0f;
      size_t size = input_[1] & 0x7f, more = size == 126 ? 2 : size == 127 ? 8 : 0, head = 2 + more;
      if (!Fill(head, late)) return "";
      if (more > 0) size = 0;
      for (size_t i = 0; i < more; ++i) size = size << 8 | static_cast<unsigned char>(input_[2 + i]);
      if (!Fill(head + size, late)) return "";
      std::string payload = input_.substr(head, size);
      input_.erase(0, head + size);
      if (opcode == kClose) return "";
      if (opcode == kPing) Send(payload, kPong);
      if (opcode <= kBinary && !payload.empty()) return payload;
    }
  }

 private:
  bool Fill(size_t bytes, bool* late) {
    while (input_.size() < bytes) {
      std::string more = connection_.Read(late);
      if (more.empty()) return false;
      input_ += more;
    }
    return true;
  }

  Connection connection_;
  std::string input_;
};

class Tunnel : public Bytes {
 public:
  explicit Tunnel(WebSocket socket) : socket_(std::move(socket)) {}
  bool Write(std::string_view bytes) override { return bytes.empty() || socket_.Send(bytes); }
  std::string Read(bool* late) override { return socket_.Next(late); }

 private:
  WebSocket socket_;
};

// The SPDY half of both exec and port-forward.
class Spdy : public codec::SpdySession::Events {
 public:
  explicit Spdy(std::unique_ptr<Bytes> connection)
      : connection_(std::move(connection)), session_(codec::SpdySession::Role::kClient, *this, {}) {}

  uint32_t Open(const codec::SpdyHeaders& headers) {
    uint32_t stream = session_.Open(headers);
    open_.insert(stream);
    Flush();
    return stream;
  }
  void Send(uint32_t stream, std::string_view bytes) {
    while (!bytes.empty()) {
      size_t sent = session_.Send(stream, bytes.substr(0, 32 << 10));
      bytes.remove_prefix(sent);
      Flush();
      bool late;
      if (sent == 0 && !ReadSome(&late)) return;
    }
  }
  void End(uint32_t stream) {
    session_.End(stream);
    Flush();
  }
  bool ReadSome(bool* late) {
    std::string bytes = connection_->Read(late);
    if (bytes.empty() || !session_.Receive(bytes)) return false;
    Flush();
    return true;
  }
  bool is_open(uint32_t stream) const { return open_.contains(stream); }
  std::map<uint32_t, std::string*> sinks;

 private:
  void Flush() { connection_->Write(session_.TakeOutput()); }
  void OnStream(uint32_t, const codec::SpdyHeaders&) override {}
  void OnData(uint32_t stream, std::string_view bytes) override {
    if (auto sink = sinks.find(stream); sink != sinks.end()) *sink->second += bytes;
    session_.Consumed(stream, bytes.size());
  }
  void OnEnd(uint32_t stream) override { open_.erase(stream); }
  void OnReset(uint32_t stream) override { open_.erase(stream); }
  void OnGoAway() override {}

  std::unique_ptr<Bytes> connection_;
  codec::SpdySession session_;
  std::set<uint32_t> open_;
};

class SpdyClient : public StreamClient {
 public:
  SpdyClient(Connection connection, const StreamRequest& request)
      : spdy_(std::make_unique<Connection>(std::move(connection))) {
    error_ = OpenStream("error", &status);
    if (request.in) in_ = OpenStream("stdin", nullptr);
    if (request.out) out_ = OpenStream("stdout", &out);
    if (request.err && !request.tty) err_ = OpenStream("stderr", &err);
    if (request.tty) resize_ = OpenStream("resize", nullptr);
  }
  void Send(const std::string& bytes) override { spdy_.Send(in_, bytes); }
  void EndInput() override { spdy_.End(in_); }
  void Resize(int columns, int rows) override {
    spdy_.Send(resize_, StrCat("{\"Width\":", columns, ",\"Height\":", rows, "}\n"));
  }
  bool ReadUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (!spdy_.is_open(error_) && !(out_ && spdy_.is_open(out_)) && !(err_ && spdy_.is_open(err_))) ended = true;
      if (ended) return true;
      bool late;
      if (!spdy_.ReadSome(&late)) {
        ended = !late;
        return !late;
      }
    }
    return true;
  }

 private:
  uint32_t OpenStream(const std::string& type, std::string* sink) {
    uint32_t stream = spdy_.Open({{"streamtype", type}});
    if (sink != nullptr) spdy_.sinks[stream] = sink;
    return stream;
  }
  Spdy spdy_;
  uint32_t error_ = 0, in_ = 0, out_ = 0, err_ = 0, resize_ = 0;
};

class WebSocketClient : public StreamClient {
 public:
  explicit WebSocketClient(Connection connection) : socket_(std::move(connection)) {}
  void Send(const std::string& bytes) override { socket_.Send(std::string(1, '\0') + bytes); }
  void EndInput() override { socket_.Send(std::string("\xff\0", 2)); }  // v5: channel 0 is closed
  void Resize(int columns, int rows) override {
    socket_.Send(StrCat("\x04{\"Width\":", columns, ",\"Height\":", rows, "}"));
  }
  bool ReadUntil(const std::function<bool()>& done) override {
    while (!done()) {
      if (ended) return true;
      bool late;
      std::string message = socket_.Next(&late);
      if (message.empty()) {
        ended = !late;
        return !late;
      }
      if (message[0] == 1) out += message.substr(1);
      if (message[0] == 2) err += message.substr(1);
      if (message[0] == 3) status += message.substr(1);
    }
    return true;
  }

 private:
  WebSocket socket_;
};

}  // namespace

Result<std::unique_ptr<StreamClient>> StreamClient::Open(const std::string& text, const std::string& transport,
                                                         const StreamRequest& request, milliseconds patience,
                                                         const std::string& protocol) {
  Url url = TRY(ParseUrl(text));
  Connection connection = TRY(Connection::Open(url.host, url.port, patience));
  if (transport == "websocket") {
    std::string head = TRY(WebSocket::Upgrade(connection, url, protocol.empty() ? "v5.channel.k8s.io" : protocol));
    auto client = std::make_unique<WebSocketClient>(std::move(connection));
    client->chosen = HeaderOf(head, "Sec-WebSocket-Protocol");
    return std::unique_ptr<StreamClient>(std::move(client));
  }
  std::string head =
      TRY(connection.Upgrade(url, "POST",
                             StrCat("Upgrade: SPDY/3.1\r\nContent-Length: 0\r\nX-Stream-Protocol-Version: ",
                                    protocol.empty() ? "v4.channel.k8s.io" : protocol, "\r\n")));
  auto client = std::make_unique<SpdyClient>(std::move(connection), request);
  client->chosen = HeaderOf(head, "X-Stream-Protocol-Version");
  return std::unique_ptr<StreamClient>(std::move(client));
}

Result<std::string> ForwardOnce(const std::string& text, const std::string& transport, int port,
                                const std::string& request, milliseconds patience) {
  Url url = TRY(ParseUrl(text));
  Connection connection = TRY(Connection::Open(url.host, url.port, patience));
  std::unique_ptr<Bytes> bytes;
  if (transport == "websocket") {
    TRY(WebSocket::Upgrade(connection, url, kTunnelProtocol));
    bytes = std::make_unique<Tunnel>(WebSocket(std::move(connection)));
  } else {
    TRY(connection.Upgrade(
        url, "POST", "Upgrade: SPDY/3.1\r\nContent-Length: 0\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n"));
    bytes = std::make_unique<Connection>(std::move(connection));
  }
  Spdy spdy(std::move(bytes));
  std::string answer, error;
  uint32_t errors = spdy.Open({{"streamtype", "error"}, {"port", StrCat(port)}, {"requestid", "0"}});
  spdy.sinks[errors] = &error;
  spdy.End(errors);
  uint32_t data = spdy.Open({{"streamtype", "data"}, {"port", StrCat(port)}, {"requestid", "0"}});
  spdy.sinks[data] = &answer;
  spdy.Send(data, request);
  while (spdy.is_open(data) && error.empty()) {
    bool late;
    if (spdy.ReadSome(&late)) continue;
    if (late)
      return Error(Code::kDeadlineExceeded,
                   StrCat("nothing more came through the forwarded port after ", Quote(answer)));
    break;
  }
  if (!error.empty()) return Error(Code::kUnavailable, StrCat("port-forward: ", error));
  return answer;
}

Result<std::string> TcpOnce(const std::string& host, int port, const std::string& request, milliseconds patience) {
  Connection connection = TRY(Connection::Open(host, port, patience));
  connection.Write(request);
  std::string answer;
  while (true) {
    bool late;
    std::string more = connection.Read(&late);
    if (late) return Error(Code::kDeadlineExceeded, StrCat("no end after ", Quote(answer)));
    if (more.empty()) return answer;
    answer += more;
  }
}

}  // namespace crisp::conformance
