#include "nri/plugin.h"

#include <algorithm>
#include <csignal>

#include "base/log.h"
#include "base/strings.h"

namespace crisp::nri {

namespace {

constexpr size_t kRequestsMax = 64;  // that wait at once
constexpr std::chrono::milliseconds kShutdownTimeout(500);
constexpr std::chrono::seconds kKillTimeout(2);
constexpr size_t kObjectsPerMessageMin = 8;
// Of one message, below ttRPC's 4 MiB for what stands around it.
constexpr size_t kSynchronizeBytesMax = (4u << 20) - 4096;

const char* MethodOf(v1::Event event) {
  switch (event) {
    case v1::EVENT_RUN_POD_SANDBOX: return "RunPodSandbox";
    case v1::EVENT_STOP_POD_SANDBOX: return "StopPodSandbox";
    case v1::EVENT_REMOVE_POD_SANDBOX: return "RemovePodSandbox";
    case v1::EVENT_CREATE_CONTAINER: return "CreateContainer";
    case v1::EVENT_POST_CREATE_CONTAINER: return "PostCreateContainer";
    case v1::EVENT_START_CONTAINER: return "StartContainer";
    case v1::EVENT_POST_START_CONTAINER: return "PostStartContainer";
    case v1::EVENT_UPDATE_CONTAINER: return "UpdateContainer";
    case v1::EVENT_POST_UPDATE_CONTAINER: return "PostUpdateContainer";
    case v1::EVENT_STOP_CONTAINER: return "StopContainer";
    case v1::EVENT_REMOVE_CONTAINER: return "RemoveContainer";
    case v1::EVENT_UPDATE_POD_SANDBOX: return "UpdatePodSandbox";
    case v1::EVENT_POST_UPDATE_POD_SANDBOX: return "PostUpdatePodSandbox";
    case v1::EVENT_VALIDATE_CONTAINER_ADJUSTMENT: return "ValidateContainerAdjustment";
    default: return "";
  }
}

// Events whose requests are a pod and a container and whose answers are empty: plugins from before NRI 0.10 get them as
// StateChange.
bool IsStateChange(v1::Event event) {
  switch (event) {
    case v1::EVENT_CREATE_CONTAINER:
    case v1::EVENT_UPDATE_CONTAINER:
    case v1::EVENT_STOP_CONTAINER:
    case v1::EVENT_UPDATE_POD_SANDBOX:
    case v1::EVENT_VALIDATE_CONTAINER_ADJUSTMENT: return false;
    default: return true;
  }
}

}  // namespace

std::optional<PluginName> ParsePluginName(std::string_view name) {
  size_t dash = name.find('-');
  if (dash == name.npos || !IsPluginIndex(name.substr(0, dash)) || dash + 1 == name.size()) return std::nullopt;
  return PluginName{std::string(name.substr(0, dash)), std::string(name.substr(dash + 1))};
}

bool IsPluginIndex(std::string_view index) {
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return index.size() == 2 && digit(index[0]) && digit(index[1]);
}

Plugin::Plugin(sys::UniqueFd socket, Timeouts timeouts, PluginName name, std::string config,
               std::optional<sys::Process> process)
    : timeouts_(timeouts),
      name_(std::move(name)),
      config_(std::move(config)),
      process_(std::move(process)),
      connection_(std::move(socket)) {}

Plugin::~Plugin() {
  connection_.Close();
  if (!process_) return;
  (void)process_->Signal(SIGKILL);
  if (auto ended = process_->Wait(Ctx().WithTimeout(kKillTimeout)); !ended) {
    LogWarning("NRI plugin does not end", {{"plugin", Name()}, {"error", ended.error()}});
  }
}

void Plugin::Start() {
  auto take = [this](Request request) {
    auto requests = requests_.Lock();
    if (requests->queue.size() == kRequestsMax) {
      requests->ended = true;
      connection_.Close();
    } else {
      requests->queue.push_back(std::move(request));
    }
    arrived_.notify_all();
  };
  auto end = [this] {
    requests_.Lock()->ended = true;
    arrived_.notify_all();
  };
  connection_.Start(take, end);
}

std::optional<Request> Plugin::NextRequest() {
  auto requests = requests_.Lock();
  requests.Wait(arrived_, [&] { return requests->ended || !requests->queue.empty(); });
  if (requests->ended) return std::nullopt;
  Request request = std::move(requests->queue.front());
  requests->queue.pop_front();
  return request;
}

Result<> Plugin::Register() {
  Request request;
  {
    auto requests = requests_.Lock();
    requests.WaitUntil(arrived_, Clock::now() + timeouts_.registration,
                       [&] { return requests->ended || !requests->queue.empty(); });
    if (requests->ended) return Error(Code::kUnavailable, "it closed its connection before it registered");
    if (requests->queue.empty()) return Error(Code::kDeadlineExceeded, "it did not register in time");
    request = std::move(requests->queue.front());
    requests->queue.pop_front();
  }
  auto refuse = [&](std::string why) {
    Error error(Code::kInvalidArgument, std::move(why));
    Reply(request, error);
    return error;
  };
  v1::RegisterPluginRequest in;
  if (request.service != kRuntimeService || request.method != "RegisterPlugin") {
    return refuse(StrCat("it called ", Quote(request.method), " before RegisterPlugin"));
  }
  if (!in.ParseFromString(request.payload)) return refuse("its registration is damaged");
  if (name_.base.empty()) {
    if (in.plugin_name().empty() || in.plugin_name().size() > 253) return refuse("a plugin needs a name");
    if (!IsPluginIndex(in.plugin_idx())) return refuse(StrCat(Quote(in.plugin_idx()), " is no index of two digits"));
    name_ = {in.plugin_idx(), in.plugin_name()};
  }
  Reply(request, std::string());

  v1::ConfigureRequest configure;
  configure.set_config(config_);
  configure.set_runtime_name("crisp");
  configure.set_runtime_version(CRISP_VERSION);
  configure.set_registration_timeout(timeouts_.registration.count());
  configure.set_request_timeout(timeouts_.request.count());
  configure.set_nri_version(kVersion);
  v1::ConfigureResponse configured;
  TRY(CallMessage("Configure", configure, timeouts_.request, &configured), "Configure");
  auto events = static_cast<uint32_t>(configured.events());
  if ((events & ~kAllEvents) != 0)
    return Error(Code::kInvalidArgument, StrCat("it subscribes to unknown events: ", events));
  events_ = events == 0 ? kAllEvents : events;
  return {};
}

Result<> Plugin::CallMessage(const char* method, const google::protobuf::MessageLite& request,
                             std::chrono::milliseconds timeout, google::protobuf::MessageLite* out) {
  std::string reply = TRY(connection_.Call(kPluginService, method, request.SerializeAsString(), timeout));
  if (out != nullptr && !out->ParseFromString(reply)) {
    connection_.Close();
    return Error(Code::kDataLoss, StrCat("its answer to ", method, " is damaged"));
  }
  return {};
}

Result<std::vector<v1::ContainerUpdate>> Plugin::Synchronize(const std::vector<v1::PodSandbox>& pods,
                                                             const std::vector<v1::Container>& containers) {
  size_t pods_done = 0, containers_done = 0;
  size_t per_message = std::max<size_t>(pods.size() + containers.size(), 1);
  while (true) {
    v1::SynchronizeRequest request;
    size_t pod = pods_done, container = containers_done;
    for (; pod < pods.size() && pod - pods_done < per_message; ++pod) *request.add_pods() = pods[pod];
    for (; container < containers.size() && pod - pods_done + container - containers_done < per_message; ++container) {
      *request.add_containers() = containers[container];
    }
    request.set_more(pod < pods.size() || container < containers.size());
    if (request.ByteSizeLong() > kSynchronizeBytesMax) {
      if (per_message <= kObjectsPerMessageMin)
        return Error(Code::kResourceExhausted, "what there is does not fit into messages");
      per_message = std::max(per_message / 2, kObjectsPerMessageMin);
      continue;
    }
    v1::SynchronizeResponse response;
    TRY(CallMessage("Synchronize", request, timeouts_.registration, &response), "Synchronize");
    if (!request.more()) return std::vector<v1::ContainerUpdate>(response.update().begin(), response.update().end());
    if (!response.more() || response.update_size() != 0) {
      return Error(Code::kFailedPrecondition, "it does not take what there is in several messages");
    }
    pods_done = pod;
    containers_done = container;
  }
}

Result<> Plugin::Tell(v1::Event event, const google::protobuf::MessageLite& request,
                      google::protobuf::MessageLite* out) {
  if (!Wants(event) || closed()) return {};
  Result<> told = CallMessage(MethodOf(event), request, timeouts_.request, out);
  if (!told && told.error().code() == Code::kUnimplemented && IsStateChange(event)) told = StateChange(event, request);
  if (told) return {};
  if (closed()) {
    LogWarning("NRI plugin is disconnected, going on without it",
               {{"plugin", Name()}, {"event", MethodOf(event)}, {"error", told.error()}});
    return {};
  }
  return std::move(told.error()).Context(StrCat("NRI plugin ", Name(), ", ", MethodOf(event)));
}

Result<> Plugin::StateChange(v1::Event event, const google::protobuf::MessageLite& request) {
  v1::StateChangeEvent change;
  // A request's pod is field 1 and its container field 2; the event has both one place on.
  v1::StartContainerRequest parts;
  if (!parts.ParseFromString(request.SerializeAsString())) return Error(Code::kInternal, "a request of another form");
  change.set_event(event);
  *change.mutable_pod() = parts.pod();
  if (parts.has_container()) *change.mutable_container() = parts.container();
  return CallMessage("StateChange", change, timeouts_.request, nullptr);
}

void Plugin::Shutdown() {
  if (!closed()) (void)CallMessage("Shutdown", v1::Empty(), kShutdownTimeout, nullptr);
}

}  // namespace crisp::nri
