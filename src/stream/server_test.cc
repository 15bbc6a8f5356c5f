#include "stream/server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <csignal>
#include <latch>
#include <thread>

#include "base/json.h"
#include "base/strings.h"
#include "codec/websocket_channels.h"
#include "stream/testing/client.h"
#include "stream/testing/fakes.h"

namespace crisp::stream {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

std::string ReadSome(const sys::UniqueFd& fd) {
  char buffer[64 << 10];
  ssize_t got = read(fd.get(), buffer, sizeof buffer);
  return std::string(buffer, got > 0 ? static_cast<size_t>(got) : 0);
}

// Copies its stdin to its stdout until the end of file, as cat does.
Result<int> Cat(FakeProcess process) {
  for (std::string bytes; !(bytes = ReadSome(process.in)).empty();) {
    if (!sys::WriteAll(process.out, bytes)) return 141;
  }
  return 0;
}

int Descriptors() {
  int count = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count;
}

// For states that no event tells a test about. The bound is for a hang only.
template <class Condition>
bool Eventually(Condition condition) {
  for (Clock::time_point until = Clock::now() + std::chrono::seconds(60); Clock::now() < until;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

class ServerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { signal(SIGPIPE, SIG_IGN); }
  void Start(Server::Options options = {}) { server_ = *Server::Listen(options, backend_); }
  std::string Path(Request request) { return PathOf(*server_->Issue(std::move(request))); }
  std::string ExecPath(StreamWants wants = {.in = true, .out = true}) {
    return Path({.verb = Verb::kExec, .id = "c1", .cmd = {"cmd"}, .wants = wants});
  }
  std::string ForwardPath(std::vector<uint16_t> ports = {}) {
    return Path({.verb = Verb::kPortForward, .id = "p1", .ports = std::move(ports)});
  }
  void TearDown() override {
    server_.reset();
    EXPECT_EQ(backend_.alive, 0);
  }

  FakeBackend backend_;
  std::unique_ptr<Server> server_;
};

struct ExecStreams {
  explicit ExecStreams(SpdyClient& client, StreamWants wants = {.in = true, .out = true}) {
    error = client.Open({{"streamtype", "error"}});
    if (wants.in) in = client.Open({{"streamtype", "stdin"}});
    if (wants.out) out = client.Open({{"streamtype", "stdout"}});
    if (wants.err) err = client.Open({{"streamtype", "stderr"}});
    if (wants.tty) resize = client.Open({{"streamtype", "resize"}});
  }
  uint32_t error = 0, in = 0, out = 0, err = 0, resize = 0;
};

// ---- SPDY

TEST_F(ServerTest, SpdyExecCarriesStreamsAndExitCode) {
  backend_.body = [](FakeProcess process) -> Result<int> {
    EXPECT_EQ(process.container, "c1");
    EXPECT_THAT(process.cmd, testing::ElementsAre("cmd"));
    EXPECT_TRUE(sys::WriteAll(process.err, "complaint"));
    std::string all;
    for (std::string bytes; !(bytes = ReadSome(process.in)).empty();) all += bytes;
    EXPECT_TRUE(sys::WriteAll(process.out, "got " + all));
    return 7;
  };
  Start();
  StreamWants wants{.in = true, .out = true, .err = true};
  SpdyClient client(server_->port(), ExecPath(wants), "v4.channel.k8s.io");
  ASSERT_TRUE(client.upgraded()) << client.head();
  EXPECT_THAT(client.head(), HasSubstr("X-Stream-Protocol-Version: v4.channel.k8s.io"));
  ExecStreams streams(client, wants);
  client.Send(streams.in, "hello");
  client.End(streams.in);
  client.ReadUntilEnded({streams.out, streams.err, streams.error});
  EXPECT_EQ(client.data[streams.out], "got hello");
  EXPECT_EQ(client.data[streams.err], "complaint");
  EXPECT_EQ((*ParseJson(client.data[streams.error], "status"))["details"]["causes"][0]["message"], "7");
}

TEST_F(ServerTest, SpdyVersionsAreNegotiated) {
  backend_.body = Cat;
  Start();
  for (const char* version : {"v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io",
                              "channel.k8s.io", "nonsense, v2.channel.k8s.io", ""}) {
    SpdyClient client(server_->port(), ExecPath(), version);
    ASSERT_TRUE(client.upgraded()) << version;
    ExecStreams streams(client);
    client.Send(streams.in, "x");
    client.End(streams.in);
    client.ReadUntilEnded({streams.out, streams.error});
    EXPECT_EQ(client.data[streams.out], "x");
    bool status = std::string(version) == "v5.channel.k8s.io" || std::string(version) == "v4.channel.k8s.io";
    EXPECT_EQ(client.data[streams.error], status ? R"({"metadata":{},"status":"Success"})" : "");
  }
  SpdyClient refused(server_->port(), ExecPath(), "v9.channel.k8s.io");
  EXPECT_THAT(refused.head(), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(refused.head(), HasSubstr("X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io"));
}

TEST_F(ServerTest, ErrorOfTheStartIsToldOnTheErrorStream) {
  Start();
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(client);
  client.ReadUntilEnded({streams.error});
  Json status = *ParseJson(client.data[streams.error], "status");
  EXPECT_EQ(status["status"], "Failure");
  EXPECT_EQ(status["message"], "no such program");
}

// containerd#13934's class: the process has read everything and is gone while the client still has its socket full.
TEST_F(ServerTest, StdinIsNeverCutAndTheEndIsNoReset) {
  constexpr size_t kBytes = 32 << 20;
  backend_.body = [](FakeProcess process) -> Result<int> {
    size_t total = 0;
    for (std::string bytes; !(bytes = ReadSome(process.in)).empty();) total += bytes.size();
    EXPECT_TRUE(sys::WriteAll(process.out, StrCat(total)));
    return 0;
  };
  Start();
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(client);
  client.Send(streams.in, std::string(kBytes, 'x'));
  client.End(streams.in);
  client.ReadUntilEnded({streams.out, streams.error});
  EXPECT_EQ(client.data[streams.out], StrCat(kBytes));
}

TEST_F(ServerTest, InputThatNobodyReadsIsDrainedAfterTheExit) {
  backend_.body = [](FakeProcess process) -> Result<int> {
    EXPECT_EQ(ReadSome(process.in).substr(0, 1), "x");
    EXPECT_TRUE(sys::WriteAll(process.out, "enough"));
    return 3;
  };
  Start();
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(client);
  client.Send(streams.in, std::string(8 << 20, 'x'));  // hangs, or ends in a reset, if the server stops reading
  client.ReadUntilEnded({streams.out, streams.error});
  EXPECT_EQ(client.data[streams.out], "enough");
  EXPECT_THAT(client.data[streams.error], HasSubstr("NonZeroExitCode"));
  client.raw.EndWrite();
  EXPECT_TRUE(client.ReadToEnd());
}

TEST_F(ServerTest, OutputOfASlowClientIsNotLostAndNotKept) {
  constexpr size_t kBytes = 16 << 20;
  std::atomic<size_t> written{0};
  backend_.body = [&](FakeProcess process) -> Result<int> {
    std::string piece(64 << 10, 'y');
    for (size_t i = 0; i < kBytes / piece.size(); ++i) {
      if (!sys::WriteAll(process.out, piece)) return 141;
      written += piece.size();
    }
    return 0;
  };
  Start();
  SpdyClient client(server_->port(), ExecPath({.out = true}), "v4.channel.k8s.io");
  ExecStreams streams(client, {.out = true});
  client.ReadUntil(streams.out, 1);
  client.ReadUntilEnded({streams.out, streams.error});
  EXPECT_EQ(client.data[streams.out].size(), kBytes);
  EXPECT_EQ(client.data[streams.error], R"({"metadata":{},"status":"Success"})");
}

TEST_F(ServerTest, ProcessLeftBehindDoesNotKeepTheSession) {
  std::latch done(1);
  sys::UniqueFd kept;
  backend_.body = [&](FakeProcess process) -> Result<int> {
    EXPECT_TRUE(sys::WriteAll(process.out, "started"));
    kept = std::move(process.out);  // "daemon &": it has our stdout
    return 0;
  };
  Start();
  SpdyClient client(server_->port(), ExecPath({.out = true}), "v4.channel.k8s.io");
  ExecStreams streams(client, {.out = true});
  client.ReadUntilEnded({streams.out, streams.error});
  EXPECT_EQ(client.data[streams.out], "started");
  EXPECT_EQ(client.data[streams.error], R"({"metadata":{},"status":"Success"})");
}

TEST_F(ServerTest, S45ResizeFloodAndAbortsLeaveNothing) {
  backend_.body = Cat;
  Start();
  {
    SpdyClient client(server_->port(), ExecPath({.tty = true, .in = true, .out = true}), "v4.channel.k8s.io");
    ExecStreams streams(client, {.tty = true, .in = true, .out = true});
    std::string flood;
    for (int i = 1; i <= 5'000; ++i) flood += StrCat(R"({"Width":)", i, R"(,"Height":24})", "\n");
    client.Send(streams.resize, flood);
    EXPECT_TRUE(Eventually([&] {
      std::vector<std::string> sizes = backend_.sizes();
      return !sizes.empty() && sizes.back() == "5000x24";
    }));
    EXPECT_LT(backend_.sizes().size(), 5'000u);
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0 && backend_.alive == 0; }));
  int before = Descriptors();
  for (int i = 0; i < 300; ++i) {
    SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
    if (i % 3 > 0) {
      ExecStreams streams(client);
      if (i % 3 > 1) client.Send(streams.in, "x");
    }
    if (i % 2 > 0) {
      client.raw.CloseWithReset();
    } else {
      client.raw.Close();
    }
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0 && backend_.alive == 0; }));
  EXPECT_TRUE(Eventually([&] { return Descriptors() <= before; })) << Descriptors() << " after " << before;
}

// The client has gone while the process does not read: nothing is read from its socket, and it is seen all the same.
TEST_F(ServerTest, ClientThatGoesWhileStdinIsStuckIsSeen) {
  backend_.body = [](FakeProcess process) -> Result<int> {
    pollfd wait{process.in.get(), 0, 0};
    while (poll(&wait, 1, -1) == 1 && (wait.revents & POLLHUP) == 0) {  // reads nothing until the pipe is closed
    }
    return 137;
  };
  Start();
  {
    SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
    ExecStreams streams(client);
    client.Send(streams.in, std::string(600 << 10, 'x'));
    client.raw.CloseWithReset();  // a FIN would wait behind what nobody reads
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(ServerTest, MissingStreamsAreNotWaitedForEver) {
  backend_.body = Cat;
  Start({.creation_timeout = std::chrono::milliseconds(50)});
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  client.Open({{"streamtype", "error"}});
  (void)client.ReadToEnd();
  RawClient silent(server_->port());
  EXPECT_EQ(silent.Read(), "");
  EXPECT_EQ(backend_.opened, 0);
}

TEST_F(ServerTest, IdleConnectionsAreClosed) {
  backend_.body = Cat;
  Start({.idle_timeout = std::chrono::milliseconds(50)});
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(client);
  (void)client.ReadToEnd();
  EXPECT_TRUE(Eventually([&] { return backend_.alive == 0; }));
}

TEST_F(ServerTest, StoppingEndsWhatRuns) {
  backend_.body = Cat;
  Start();
  SpdyClient client(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(client);
  client.Send(streams.in, "x");
  client.ReadUntil(streams.out, 1);
  server_.reset();
  EXPECT_EQ(backend_.alive, 0);
}

// ---- WebSocket

TEST_F(ServerTest, WebSocketExecWithHalfClose) {
  backend_.body = [](FakeProcess process) {
    Result<int> code = Cat(std::move(process));
    return code ? Result<int>(5) : std::move(code);
  };
  Start();
  WebSocketClient client(server_->port(), ExecPath(), "v5.channel.k8s.io, v4.channel.k8s.io");
  ASSERT_TRUE(client.upgraded()) << client.head();
  EXPECT_THAT(client.head(), HasSubstr("Sec-WebSocket-Protocol: v5.channel.k8s.io"));
  client.Send(std::string("\0hello", 6));
  client.Send(codec::MakeChannelClose(0));
  std::map<int, std::string> channels = client.ReceiveAll();
  EXPECT_EQ(channels[1], "hello");
  EXPECT_THAT(channels[3], HasSubstr(R"("message":"5")"));
  EXPECT_EQ(client.close_code, 1000);
}

TEST_F(ServerTest, WebSocketBase64AndResize) {
  backend_.body = [](FakeProcess process) -> Result<int> {
    std::string line = ReadSome(process.in);
    EXPECT_TRUE(sys::WriteAll(process.out, "<" + line + ">"));
    return 0;
  };
  Start();
  WebSocketClient client(server_->port(), ExecPath({.tty = true, .in = true, .out = true}), "v4.base64.channel.k8s.io");
  ASSERT_TRUE(client.upgraded());
  client.Send("4" + codec::EncodeBase64(R"({"Width":33,"Height":44})"), 1);
  EXPECT_TRUE(Eventually([&] { return !backend_.sizes().empty(); }));
  EXPECT_EQ(backend_.sizes().front(), "33x44");
  client.Send("0" + codec::EncodeBase64("line"), 1);
  std::map<int, std::string> channels = client.ReceiveAll();
  EXPECT_EQ(channels['1'], codec::EncodeBase64("<line>"));
  EXPECT_EQ(channels['3'], codec::EncodeBase64(R"({"metadata":{},"status":"Success"})"));
}

TEST_F(ServerTest, WebSocketOfUnknownProtocolIsRefused) {
  Start();
  EXPECT_THAT(WebSocketClient(server_->port(), ExecPath(), "v9.channel.k8s.io").head(), StartsWith("HTTP/1.1 403"));
}

// ---- port-forward

// A TCP pair: the server gets one end, `talk` the other on a thread.
class Pod {
 public:
  explicit Pod(FakeBackend& backend) {
    backend.dial = [this](uint16_t port) -> Result<sys::UniqueFd> {
      sys::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof address;
      auto* raw = reinterpret_cast<sockaddr*>(&address);
      if (bind(listener.get(), raw, size) != 0 || listen(listener.get(), 1) != 0) return Errno(errno, "listen");
      (void)getsockname(listener.get(), raw, &size);
      sys::UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (connect(client.get(), raw, size) != 0) return Errno(errno, "connect");
      auto peer = std::make_shared<sys::UniqueFd>(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::lock_guard lock(mutex_);
      if (closed_) return Error(Code::kUnavailable, "the test is over");
      threads_.emplace_back([peer, port] { Talk(*peer, port); });
      return client;
    };
  }
  ~Pod() {
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;  // a port may be dialled still
      threads = std::move(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  // Port 1 resets after the first bytes; 2 waits for the end of its input and answers with its size; others echo.
  static void Talk(sys::UniqueFd& peer, uint16_t port) {
    size_t total = 0;
    for (std::string bytes; !(bytes = ReadSome(peer)).empty();) {
      total += bytes.size();
      if (port == 1) {
        linger now{.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
        return peer.Reset();
      }
      if (port != 2 && !sys::WriteAll(peer, bytes)) return;
    }
    if (port == 2) (void)sys::WriteAll(peer, StrCat(total));
    peer.Reset();
  }
  std::mutex mutex_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

std::pair<uint32_t, uint32_t> OpenPort(SpdyClient& client, int port, int request) {
  codec::SpdyHeaders headers{{"streamtype", "error"}, {"port", StrCat(port)}, {"requestid", StrCat(request)}};
  uint32_t error = client.Open(headers);
  client.End(error);
  headers[0].second = "data";
  return {client.Open(headers), error};
}

TEST_F(ServerTest, SpdyForwardsManyConnectionsAndAResetIsOnesOwn) {
  Pod pod(backend_);
  Start();
  SpdyClient client(server_->port(), ForwardPath(), "portforward.k8s.io");
  ASSERT_TRUE(client.upgraded()) << client.head();
  auto [echo, echo_error] = OpenPort(client, 80, 0);
  auto [reset, reset_error] = OpenPort(client, 1, 1);
  auto [count, count_error] = OpenPort(client, 2, 2);
  client.Send(echo, "ping");
  client.Send(reset, "x");
  client.ReadUntilEnded({reset, reset_error});
  EXPECT_TRUE(client.was_reset[reset]);
  EXPECT_EQ(client.data[reset_error], "");  // a text would make clients drop all of their forwards
  client.Send(echo, "pong");
  client.Send(count, std::string(1 << 20, 'x'));
  client.End(count);
  client.ReadUntilEnded({count, count_error});
  EXPECT_EQ(client.data[count], StrCat(1 << 20));
  client.ReadUntil(echo, 8);
  EXPECT_EQ(client.data[echo], "pingpong");
  client.End(echo);
  client.ReadUntilEnded({echo, echo_error});
  client.raw.Close();
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(ServerTest, ForwardThatNobodyListensForIsToldAndOthersGoOn) {
  Start();
  SpdyClient client(server_->port(), ForwardPath(), "portforward.k8s.io");
  auto [data, error] = OpenPort(client, 80, 0);
  client.ReadUntilEnded({data, error});
  EXPECT_THAT(client.data[error], HasSubstr("connection refused"));
  uint32_t bad = client.Open({{"streamtype", "data"}, {"port", "0"}, {"requestid", "9"}});
  client.ReadUntilEnded({bad});
  EXPECT_TRUE(client.was_reset[bad]);
}

TEST_F(ServerTest, ClientsResetOfAForwardReachesThePod) {
  Pod pod(backend_);
  Start();
  SpdyClient client(server_->port(), ForwardPath(), "portforward.k8s.io");
  auto [data, error] = OpenPort(client, 80, 0);
  client.Send(data, "x");
  client.ReadUntil(data, 1);
  client.Reset(data);
  client.ReadUntilEnded({error});  // hangs if the pod's connection goes on
  EXPECT_TRUE(client.ended[error]);
}

TEST_F(ServerTest, WebSocketForwardTellsPortsAndEchoes) {
  Pod pod(backend_);
  Start();
  std::string path = ForwardPath() + "?port=8080&port=2";
  WebSocketClient client(server_->port(), path, "v4.channel.k8s.io");
  ASSERT_TRUE(client.upgraded());
  EXPECT_EQ(client.Receive(), std::string("\x00\x90\x1f", 3));
  EXPECT_EQ(client.Receive(), std::string("\x01\x90\x1f", 3));
  EXPECT_EQ(client.Receive(), std::string("\x02\x02\x00", 3));
  EXPECT_EQ(client.Receive(), std::string("\x03\x02\x00", 3));
  client.Send(std::string("\0hello", 6));
  EXPECT_EQ(client.Receive(), std::string("\0hello", 6));
}

TEST_F(ServerTest, SpdyInsideWebSocketIsForwarded) {
  Pod pod(backend_);
  Start();
  WebSocketClient client(server_->port(), ForwardPath(), "SPDY/3.1+portforward.k8s.io");
  ASSERT_TRUE(client.upgraded()) << client.head();
  codec::SpdyFrameWriter writer;
  std::string bytes;
  writer.SynStream(bytes, 1, {{"streamtype", "error"}, {"port", "80"}, {"requestid", "0"}}, codec::kSpdyFin);
  writer.SynStream(bytes, 3, {{"streamtype", "data"}, {"port", "80"}, {"requestid", "0"}}, 0);
  codec::SpdyFrameWriter::Data(bytes, 3, "ping", 0);
  for (size_t at = 0; at < bytes.size(); at += 7) client.Send(std::string_view(bytes).substr(at, 7));
  std::string echoed, wanted;
  codec::SpdyFrameWriter::Data(wanted, 3, "ping", 0);
  while (!echoed.ends_with(wanted)) {
    std::string message = client.Receive();
    ASSERT_FALSE(message.empty());
    echoed += message;
  }
}

// ---- hostile clients, tokens, TLS

TEST_F(ServerTest, S46BadSpdyEndsItsConnectionOnly) {
  backend_.body = Cat;
  Start();
  SpdyClient good(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(good);
  for (std::string frame :
       {std::string("\x80\x03\x00\x04\x00\x00\x00\x04\xff\xff\xff\xff", 12),
        std::string("\x80\x03\x00\x01\x00\xff\xff\xff", 8), std::string("\x80\x02\x00\x01\x00\x00\x00\x00", 8)}) {
    SpdyClient bad(server_->port(), ExecPath(), "v4.channel.k8s.io");
    bad.raw.Write(frame);
    (void)bad.ReadToEnd();
  }
  good.Send(streams.in, "still here");
  good.ReadUntil(streams.out, 10);
  EXPECT_EQ(good.data[streams.out], "still here");
}

TEST_F(ServerTest, S47FloodsOfPingsAndResetsAreBounded) {
  backend_.body = Cat;
  Start();
  SpdyClient good(server_->port(), ExecPath(), "v4.channel.k8s.io");
  ExecStreams streams(good);
  RawClient flood(server_->port());
  flood.Write(
      StrCat("POST ", ForwardPath(), " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"));
  ASSERT_THAT(flood.ReadHead(), StartsWith("HTTP/1.1 101"));
  codec::SpdyFrameWriter writer;
  std::string bytes;
  for (uint32_t i = 0; i < 20'000; ++i) {
    codec::SpdyFrameWriter::Ping(bytes, 2 * i + 1);
    writer.SynStream(bytes, 2 * i + 1, {{"streamtype", "data"}, {"port", "80"}, {"requestid", StrCat(i)}}, 0);
    codec::SpdyFrameWriter::RstStream(bytes, 2 * i + 1, codec::SpdyStatus::kCancel);
  }
  // It reads no answers: at some point the server reads no more either, and this write would hang.
  (void)send(flood.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  good.Send(streams.in, "still here");
  good.ReadUntil(streams.out, 10);
  EXPECT_EQ(good.data[streams.out], "still here");
  EXPECT_LE(backend_.opened, 1 + 100);
}

TEST_F(ServerTest, S48UnknownUsedAndForeignTokensAreNotFound) {
  backend_.body = Cat;
  Start();
  std::string url = *server_->Issue({.verb = Verb::kExec, .id = "c1", .wants = {.out = true}});
  EXPECT_THAT(url, StartsWith(StrCat("http://127.0.0.1:", server_->port(), "/exec/")));
  std::string path = PathOf(url), token = path.substr(6);
  int port = server_->port();
  for (const std::string& wrong :
       {"/exec/" + token.substr(1), "/attach/" + token, "/portforward/" + token, std::string("/exec/"), "/" + token,
        "/exec/" + token + "/", std::string("/"), std::string("*")}) {
    EXPECT_EQ(StatusOf(port, wrong), "HTTP/1.1 404 Not Found") << wrong;
  }
  EXPECT_EQ(StatusOf(port, path), "HTTP/1.1 400 Bad Request");  // no upgrade; and so it is used
  EXPECT_EQ(StatusOf(port, path), "HTTP/1.1 404 Not Found");
  EXPECT_EQ(backend_.opened, 0);
}

TEST_F(ServerTest, AddressesThatAreNone) {
  for (const char* address : {"", "localhost:1", "127.0.0.1", "127.0.0.1:70000", "1.2.3.4.5:1"}) {
    EXPECT_FALSE(Server::Listen({.address = address}, backend_)) << address;
  }
  Result<std::unique_ptr<Server>> any = Server::Listen({.address = "0.0.0.0:0"}, backend_);
  ASSERT_TRUE(any);
  EXPECT_THAT(*(*any)->Issue({}), StartsWith("http://127.0.0.1:"));
  EXPECT_FALSE(Server::Listen({.tls_cert = "/no/such/file", .tls_key = "/no/such/file"}, backend_));
}

// A certificate for "127.0.0.1" that names itself `name`, and its key, in one file.
void WriteCertificate(const std::string& path, const std::string& name) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                             0);
  X509_set_issuer_name(certificate, subject);
  X509_sign(certificate, key, EVP_sha256());
  FILE* file = fopen(path.c_str(), "w");
  PEM_write_X509(file, certificate);
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

// One TLS request: the name of the server's certificate, and the first line of its answer.
std::pair<std::string, std::string> AskOverTls(int port, const std::string& path, int version_max = 0) {
  RawClient raw(port);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  if (version_max != 0) SSL_CTX_set_max_proto_version(context, version_max);
  SSL_CTX_set_cipher_list(context, "DEFAULT:@SECLEVEL=0");
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, raw.fd());
  std::string name, answer;
  if (SSL_connect(ssl) == 1) {
    X509* certificate = SSL_get1_peer_certificate(ssl);
    char text[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, sizeof text);
    name = text;
    X509_free(certificate);
    std::string request =
        StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
    SSL_write(ssl, request.data(), static_cast<int>(request.size()));
    int got = SSL_read(ssl, text, sizeof text);
    answer = std::string(text, got > 0 ? static_cast<size_t>(got) : 0);
    answer = answer.substr(0, answer.find("\r\n"));
  }
  SSL_free(ssl);
  SSL_CTX_free(context);
  return {name, answer};
}

TEST_F(ServerTest, CertificateIsReadAgainWhenItChanges) {
  backend_.body = Cat;
  std::string path = testing::TempDir() + StrCat("/crisp-stream-", getpid(), ".pem"), next = path + ".new";
  WriteCertificate(path, "first");
  Start({.tls_cert = path, .tls_key = path});
  std::string url = *server_->Issue({.verb = Verb::kExec, .id = "c1", .wants = {.out = true}});
  EXPECT_THAT(url, StartsWith("https://127.0.0.1:"));
  EXPECT_THAT(AskOverTls(server_->port(), PathOf(url)), Pair("first", "HTTP/1.1 101 Switching Protocols"));
  WriteCertificate(next, "second");
  ASSERT_EQ(rename(next.c_str(), path.c_str()), 0);
  EXPECT_THAT(AskOverTls(server_->port(), "/exec/x"), Pair("second", "HTTP/1.1 404 Not Found"));
  ASSERT_TRUE(sys::WriteAll(*sys::Open(next, O_WRONLY | O_CREAT | O_TRUNC, 0600), "broken"));
  ASSERT_EQ(rename(next.c_str(), path.c_str()), 0);
  EXPECT_THAT(AskOverTls(server_->port(), "/exec/x"), Pair("second", "HTTP/1.1 404 Not Found"));
  EXPECT_EQ(AskOverTls(server_->port(), "/exec/x", TLS1_1_VERSION).first, "");
  EXPECT_THAT(StatusOf(server_->port(), "/exec/x"), testing::Not(HasSubstr("HTTP/1.1")));  // no plain text
  unlink(path.c_str());
}

TEST_F(ServerTest, ConnectionsAreLimitedAndStrangersMakeRoom) {
  Start({.connections_max = 2});
  RawClient oldest(server_->port()), other(server_->port());
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 2; }));
  RawClient next(server_->port());
  EXPECT_EQ(oldest.Read(), "");
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 2; }));
  EXPECT_EQ(StatusOf(server_->port(), "/"), "HTTP/1.1 404 Not Found");
}

}  // namespace
}  // namespace crisp::stream
