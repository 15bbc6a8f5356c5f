// Plugin: one NRI plugin: its connection, what it wants to be told, and its process if it is one that we have started.
// Threading: any thread, after Start. A plugin that does not answer in time, or breaks the protocol, is disconnected;
// that is no error of the event it was told of.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "nri/connection.h"
#include "nri/protocol.h"
#include "sys/spawn.h"

namespace crisp::nri {

struct Timeouts {
  std::chrono::milliseconds registration{5'000};  // to register; also to take in what there is
  std::chrono::milliseconds request{2'000};
};

class Plugin {
 public:
  // A plugin that was found and started is named; one that connects names itself.
  Plugin(sys::UniqueFd socket, Timeouts timeouts, PluginName name, std::string config,
         std::optional<sys::Process> process);
  // Disconnects, and ends the process if it is ours.
  ~Plugin();

  void Start();
  // Waits for the plugin's registration and configures it. Any error: the plugin is of no use.
  Result<> Register();
  // Tells all there is, in several messages where one would be too long. The answer: what it wants to change.
  Result<std::vector<v1::ContainerUpdate>> Synchronize(const std::vector<v1::PodSandbox>& pods,
                                                       const std::vector<v1::Container>& containers);
  // The next call of the plugin; nothing: it is gone.
  std::optional<Request> NextRequest();
  void Reply(const Request& request, Result<std::string> payload) {
    connection_.Reply(request.stream, std::move(payload));
  }

  bool Wants(v1::Event event) const { return (events_ & EventBit(event)) != 0; }
  // Tells of an event. `out` stays as it is when the plugin is not interested, or has been disconnected for its
  // silence. An error is the plugin's own: it refuses.
  Result<> Tell(v1::Event event, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* out);
  void Shutdown();  // tells that we are going; bounded by half a second

  // "10-name"; once registered.
  std::string Name() const { return name_.index + "-" + name_.base; }
  const PluginName& parts() const { return name_; }
  bool closed() const { return connection_.closed(); }
  void Close() { connection_.Close(); }

 private:
  struct Requests {
    std::deque<Request> queue;
    bool ended = false;
  };
  Result<> CallMessage(const char* method, const google::protobuf::MessageLite& request,
                       std::chrono::milliseconds timeout, google::protobuf::MessageLite* out);
  Result<> StateChange(v1::Event event, const google::protobuf::MessageLite& request);

  const Timeouts timeouts_;
  PluginName name_;
  const std::string config_;
  std::optional<sys::Process> process_;
  uint32_t events_ = 0;  // set by Register, then constant
  Synchronized<Requests> requests_;
  std::condition_variable arrived_;
  Connection connection_;
};

}  // namespace crisp::nri
