// Exec, attach and port-forward through the URL of the streaming server.
#include "base/strings.h"
#include "conformance/spec.h"
#include "conformance/specs/ports.h"
#include "conformance/stream.h"

namespace crisp::conformance {
namespace {

constexpr const char* kGet = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

class Streams : public Spec {
 protected:
  std::unique_ptr<StreamClient> Connect(const std::string& url, const StreamRequest& request,
                                        const std::string& protocol = "") {
    auto client = StreamClient::Open(url, transport_, request, patience(), protocol);
    if (!client) throw Failure(StrCat("stream of ", url, ": ", client.error().message()));
    return *std::move(client);
  }
  std::unique_ptr<StreamClient> ExecStream(const std::string& id, const std::vector<std::string>& command,
                                           const StreamRequest& request, const std::string& protocol = "") {
    Json reply = Call("Exec", {{"container_id", id},
                               {"cmd", command},
                               {"stdin", request.in},
                               {"stdout", request.out},
                               {"stderr", request.err && !request.tty},
                               {"tty", request.tty}});
    return Connect(reply["url"], request, protocol);
  }
  std::unique_ptr<StreamClient> AttachStream(const std::string& id, const StreamRequest& request) {
    Json reply = Call("Attach", {{"container_id", id},
                                 {"stdin", request.in},
                                 {"stdout", request.out},
                                 {"stderr", request.err && !request.tty},
                                 {"tty", request.tty}});
    return Connect(reply["url"], request);
  }
  void ReadToEnd(StreamClient& client) {
    if (!client.ReadUntil([&] { return client.ended; }))
      throw Failure(StrCat("the stream does not end; so far ", Quote(client.out)));
  }
  void ReadFor(StreamClient& client, const std::string& text) {
    client.ReadUntil([&] { return client.out.find(text) != std::string::npos; });
    if (client.out.find(text) == std::string::npos)
      throw Failure(StrCat("no ", Quote(text), " came, but ", Quote(client.out), Quote(client.status)));
  }
  std::string transport_ = context().transport;
};

#define STREAM_SPEC(name_, ...)                                                               \
  class Streaming_##name_ : public Streams {                                                  \
   protected:                                                                                 \
    void Body() override;                                                                     \
  };                                                                                          \
  static const bool registered_streaming_##name_ =                                            \
      internal::Register({"Streaming", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<Streaming_##name_>);          \
  void Streaming_##name_::Body()

STREAM_SPEC(ExecGivesOutput, .like = {61},
            .faults = {"Exec:url=http://127.0.0.1:1/exec/none", "Exec:url=", "Exec<cmd=[\"/bin/true\"]"}) {
  auto client = ExecStream(Run(RunPod()), {"/bin/sh", "-c", "echo out; echo err >&2"}, {});
  ReadToEnd(*client);
  EXPECT_EQ(client->out, "out\n");
  EXPECT_EQ(client->err, "err\n");
}
STREAM_SPEC(ExecOnATerminal, .like = {62}, .faults = {"Exec<tty=false"}) {
  auto client = ExecStream(Run(RunPod()), {"/bin/sh"}, {.in = true, .tty = true});
  client->Send("tty && echo A-TERM\"INAL\"\n");
  ReadFor(*client, "A-TERMINAL");
  client->Resize(123, 45);
  client->Send("while [ \"$(stty size)\" != '45 123' ]; do sleep 0.05; done; echo RES\"IZED\"\n");
  ReadFor(*client, "RESIZED");
  client->Send("exit\n");
  ReadToEnd(*client);
}
STREAM_SPEC(Attach, .like = {63},
            .faults = {"Attach:url=http://127.0.0.1:1/attach/none",
                       "CreateContainer<config.stdin=false; Attach<stdin=false"}) {
  std::string id = Run(RunPod(), {{"command", {"/bin/sh"}}, {"stdin", true}});
  auto client = AttachStream(id, {.in = true});
  client->Send("echo attached\n");
  ReadFor(*client, "attached\n");
}
STREAM_SPEC(PortForward, .like = {64},
            .faults = {"PortForward:url=http://127.0.0.1:1/portforward/none", "PortForward<pod_sandbox_id=none"}) {
  Pod pod = RunPod();
  Run(pod, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(pod, "serving");
  Json reply = Call("PortForward", {{"pod_sandbox_id", pod.id}, {"port", {80}}});
  auto answer = ForwardOnce(reply["url"], transport_, 80, kGet, patience());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("crisptest web"), std::string::npos) << *answer;
}
STREAM_SPEC(PortForwardInHostNetwork, .like = {112},
            .faults = {"PortForward:url=http://127.0.0.1:1/portforward/none"}) {
  int port = FreePort();
  Json options = {{"linux", {{"security_context", {{"namespace_options", {{"network", "NODE"}}}}}}}};
  Pod pod = RunPod(options);
  Run(pod, Merged(options, {{"command", {"/guest", "http", StrCat(port)}}}));
  WaitLog(pod, "serving");
  Json reply = Call("PortForward", {{"pod_sandbox_id", pod.id}, {"port", {port}}});
  auto answer = ForwardOnce(reply["url"], transport_, port, kGet, patience());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("crisptest web"), std::string::npos) << *answer;
}

// ---- beyond critest

STREAM_SPEC(ExecTellsTheExitCode, .faults = {"Exec<cmd=[\"/bin/true\"]"}) {
  auto client = ExecStream(Run(RunPod()), {"/bin/sh", "-c", "exit 5"}, {});
  ReadToEnd(*client);
  EXPECT_NE(client->status.find("NonZeroExitCode"), std::string::npos) << client->status;
  EXPECT_NE(client->status.find("\"5\""), std::string::npos) << client->status;
}
STREAM_SPEC(ExecInputEnds, .faults = {"Exec<stdin=false"}) {
  auto client = ExecStream(Run(RunPod()), {"/guest", "echo"}, {.in = true});
  client->Send("some input\n");
  ReadFor(*client, "some input\n");
  client->EndInput();
  ReadFor(*client, "end\n");
  ReadToEnd(*client);
}
STREAM_SPEC(ExecCarriesLargeOutput, .faults = {"Exec<cmd=[\"/guest\",\"lines\",\"10\"]"}) {
  auto client = ExecStream(Run(RunPod()), {"/guest", "lines", "100000", "100"}, {});
  ReadToEnd(*client);
  EXPECT_EQ(client->out.size(), 100000u * 101u);
}
STREAM_SPEC(ExecOverWebSocket, .faults = {"Exec:url=http://127.0.0.1:1/exec/none"}) {
  transport_ = "websocket";
  auto client = ExecStream(Run(RunPod()), {"/bin/sh", "-c", "echo out; echo err >&2; exit 4"}, {}, "v4.channel.k8s.io");
  EXPECT_EQ(client->chosen, "v4.channel.k8s.io");
  ReadToEnd(*client);
  EXPECT_EQ(client->out, "out\n");
  EXPECT_EQ(client->err, "err\n");
  EXPECT_NE(client->status.find("\"4\""), std::string::npos) << client->status;
}
STREAM_SPEC(ExecOverWebSocketV5EndsInput, .faults = {"Exec:url=http://127.0.0.1:1/exec/none"}) {
  transport_ = "websocket";
  Json reply = Call("Exec", {{"container_id", Run(RunPod())},
                             {"cmd", {"/guest", "echo"}},
                             {"stdin", true},
                             {"stdout", true},
                             {"stderr", true}});
  auto opened = StreamClient::Open(reply["url"], "websocket", {.in = true}, patience(), "v5.channel.k8s.io");
  if (!opened && context().fault.empty()) throw Unsupported("the streaming server does not speak v5.channel.k8s.io");
  ASSERT_TRUE(opened) << opened.error().message();
  StreamClient& client = **opened;
  client.Send("some input\n");
  client.EndInput();
  ReadToEnd(client);
  EXPECT_EQ(client.out, "some input\nend\n");
}
STREAM_SPEC(ForwardOverWebSocket, .faults = {"PortForward:url=http://127.0.0.1:1/portforward/none"}) {
  Pod pod = RunPod();
  Run(pod, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(pod, "serving");
  Json reply = Call("PortForward", {{"pod_sandbox_id", pod.id}, {"port", {80}}});
  auto answer = ForwardOnce(reply["url"], "websocket", 80, kGet, patience());
  if (!answer && answer.error().message().find("no upgrade") != std::string::npos) {
    throw Unsupported("the streaming server does not tunnel SPDY through WebSocket");
  }
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("crisptest web"), std::string::npos) << *answer;
}
STREAM_SPEC(AttachOnATerminal, .faults = {"CreateContainer<config.tty=false; Attach<tty=false"}) {
  std::string id = Run(RunPod(), {{"command", {"/bin/sh"}}, {"stdin", true}, {"tty", true}});
  auto client = AttachStream(id, {.in = true, .tty = true});
  client->Send("tty && echo A-TERM\"INAL\"\n");
  ReadFor(*client, "A-TERMINAL");
}
STREAM_SPEC(AttachSeesWhatTheLogSees, .faults = {"Attach:url=http://127.0.0.1:1/attach/none"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/bin/sh"}}, {"stdin", true}});
  auto client = AttachStream(id, {.in = true});
  client->Send("echo both\n");
  ReadFor(*client, "both\n");
  WaitLog(pod, "both\n");
}
STREAM_SPEC(StdinOnceEndsTheInput, .faults = {"CreateContainer<config.stdin_once=false"}) {
  std::string id = Run(RunPod(), {{"command", {"/guest", "echo"}}, {"stdin", true}, {"stdin_once", true}});
  {
    auto client = AttachStream(id, {.in = true});
    client->Send("once\n");
    ReadFor(*client, "once\n");
    client->EndInput();
  }
  EXPECT_EQ(WaitExited(id)["exit_code"], 0);
}
STREAM_SPEC(ForwardToAClosedPortFails,
            .faults = {"PortForward:url=http://127.0.0.1:1/portforward/none; PortForward:fail"}) {
  Pod pod = RunPod();
  Json reply = Call("PortForward", {{"pod_sandbox_id", pod.id}, {"port", {81}}});
  auto answer = ForwardOnce(reply["url"], transport_, 81, "GET /\r\n\r\n", patience());
  EXPECT_TRUE(!answer || answer->empty()) << *answer;
}
STREAM_SPEC(ExecNeedsARunningContainer, .faults = {"Exec:swallow"}) {
  MustFail("Exec", {{"container_id", Create(RunPod())}, {"cmd", {"/bin/true"}}, {"stdout", true}});
}

}  // namespace
}  // namespace crisp::conformance
