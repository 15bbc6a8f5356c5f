// What plugins are told, and what becomes of their answers.
#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "nri/adjust.h"
#include "nri/convert.h"
#include "nri/nri.h"

namespace crisp::nri {

namespace {

// A plugin may want to change a container whose own verb is waiting for this one: then one of the two has to give in.
constexpr std::chrono::seconds kOtherContainerTimeout(5);
constexpr std::chrono::seconds kEnterTimeout(10);

template <class Message>
Message About(const pod::SandboxStatus& pod) {
  Message message;
  *message.mutable_pod() = ToNri(pod);
  return message;
}
template <class Message>
Message About(const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  Message message = About<Message>(pod);
  *message.mutable_container() = ToNri(container, ReadConfig(container));
  return message;
}

}  // namespace

Result<> Nri::TellAll(v1::Event event, const google::protobuf::MessageLite& request) {
  auto one_at_a_time = telling_.Lock();
  for (const PluginRef& plugin : Active()) TRY(plugin->Tell(event, request, nullptr));
  return {};
}

void Nri::Inform(v1::Event event, const google::protobuf::MessageLite& request) {
  auto one_at_a_time = telling_.Lock();
  for (const PluginRef& plugin : Active()) {
    if (Result<> told = plugin->Tell(event, request, nullptr); !told) {
      LogWarning("NRI plugin failed to handle an event, going on", {{"error", told.error()}});
    }
  }
}

// For what happens anyway, told or not.
Nri::Pass Nri::EnterBriefly(const Ctx& ctx) {
  Result<Pass> pass = Enter(ctx.WithTimeout(kEnterTimeout));
  return pass ? *pass : Pass();
}

Result<> Nri::RunSandbox(const Ctx&, const pod::SandboxStatus& pod) {
  if (Active().empty()) return {};
  return TellAll(v1::EVENT_RUN_POD_SANDBOX, About<v1::RunPodSandboxRequest>(pod));
}

Result<> Nri::UpdateSandbox(const Ctx&, const pod::SandboxStatus& pod, const spec::Resources& overhead,
                            const spec::Resources& resources) {
  if (Active().empty()) return {};
  auto request = About<v1::UpdatePodSandboxRequest>(pod);
  *request.mutable_overhead_linux_resources() = ToNri(overhead);
  *request.mutable_linux_resources() = ToNri(resources);
  return TellAll(v1::EVENT_UPDATE_POD_SANDBOX, request);
}

void Nri::PostUpdateSandbox(const Ctx&, const pod::SandboxStatus& pod) {
  if (!Active().empty()) Inform(v1::EVENT_POST_UPDATE_POD_SANDBOX, About<v1::PostUpdatePodSandboxRequest>(pod));
}

void Nri::StopSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) {
  Pass pass = EnterBriefly(ctx);
  if (!Active().empty()) Inform(v1::EVENT_STOP_POD_SANDBOX, About<v1::StopPodSandboxRequest>(pod));
}

Nri::Pass Nri::RemoveSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) {
  Pass pass = EnterBriefly(ctx);
  if (!Active().empty()) Inform(v1::EVENT_REMOVE_POD_SANDBOX, About<v1::RemovePodSandboxRequest>(pod));
  return pass;
}

Result<pod::Hooks::Adjusted> Nri::CreateContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                                                  const pod::ContainerStatus& container,
                                                  const std::string& config_json) {
  Adjusted out{config_json, {}};
  if (Active().empty()) return out;
  v1::CreateContainerRequest request;
  *request.mutable_pod() = ToNri(pod);
  *request.mutable_container() = ToNri(container, config_json);
  v1::Container before = request.container();
  Collector collector = Collector::ForCreate(*request.mutable_container());
  {
    auto one_at_a_time = telling_.Lock();
    std::vector<PluginRef> plugins = Active();
    for (const PluginRef& plugin : plugins) {
      v1::CreateContainerResponse response;
      TRY(plugin->Tell(v1::EVENT_CREATE_CONTAINER, request, &response));
      if (response.evict_size() != 0)
        LogWarning("a plugin wants to evict containers, ignoring that", {{"plugin", plugin->Name()}});
      TRY(collector.Adjust(response.adjust(), plugin->Name()));
      TRY(collector.Update(response.update(), plugin->Name()));
    }
    TRY(Validate(plugins, request.pod(), before, collector));
  }
  out.config_json = TRY(ApplyAdjustment(config_json, collector.adjustment()));
  for (const v1::CDIDevice& device : collector.adjustment().cdi_devices()) out.cdi_devices.push_back(device.name());
  TRY(ApplyUpdates(ctx, collector.updates()));
  return out;
}

Result<> Nri::Validate(const std::vector<PluginRef>& plugins, const v1::PodSandbox& pod, const v1::Container& container,
                       const Collector& collector) {
  v1::ValidateContainerAdjustmentRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  *request.mutable_adjust() = collector.adjustment();
  for (v1::ContainerUpdate& update : collector.updates()) *request.add_update() = std::move(update);
  *request.mutable_owners() = collector.owners();
  for (const PluginRef& plugin : plugins) {
    v1::PluginInstance* instance = request.add_plugins();
    instance->set_name(plugin->parts().base);
    instance->set_index(plugin->parts().index);
  }
  for (const PluginRef& plugin : plugins) {
    v1::ValidateContainerAdjustmentResponse response;
    TRY(plugin->Tell(v1::EVENT_VALIDATE_CONTAINER_ADJUSTMENT, request, &response));
    if (response.reject()) {
      return Error(Code::kPermissionDenied,
                   StrCat("NRI plugin ", plugin->Name(),
                          " rejects what plugins want for the container: ", Quote(response.reason())));
    }
  }
  return {};
}

void Nri::PostCreateContainer(const Ctx&, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  if (!Active().empty()) Inform(v1::EVENT_POST_CREATE_CONTAINER, About<v1::PostCreateContainerRequest>(pod, container));
}

Result<> Nri::StartContainer(const Ctx&, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  if (Active().empty()) return {};
  return TellAll(v1::EVENT_START_CONTAINER, About<v1::StartContainerRequest>(pod, container));
}

void Nri::PostStartContainer(const Ctx&, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  if (!Active().empty()) Inform(v1::EVENT_POST_START_CONTAINER, About<v1::PostStartContainerRequest>(pod, container));
}

Result<std::string> Nri::UpdateContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                                         const pod::ContainerStatus& container, const std::string& resources_json) {
  if (Active().empty()) return resources_json;
  auto request = About<v1::UpdateContainerRequest>(pod, container);
  *request.mutable_linux_resources() = ResourcesToNri(TRY(ParseJson(resources_json, "resources")));
  Collector collector = Collector::ForUpdate(container.id.str(), *request.mutable_linux_resources());
  {
    auto one_at_a_time = telling_.Lock();
    for (const PluginRef& plugin : Active()) {
      v1::UpdateContainerResponse response;
      TRY(plugin->Tell(v1::EVENT_UPDATE_CONTAINER, request, &response));
      TRY(collector.Update(response.update(), plugin->Name()));
    }
  }
  TRY(ApplyUpdates(ctx, collector.updates()));
  return DumpJson(TRY(ResourcesToOci(request.linux_resources())));
}

void Nri::PostUpdateContainer(const Ctx&, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  if (!Active().empty()) Inform(v1::EVENT_POST_UPDATE_CONTAINER, About<v1::PostUpdateContainerRequest>(pod, container));
}

void Nri::StopContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  Pass pass = EnterBriefly(ctx);
  if (Active().empty()) return;
  auto request = About<v1::StopContainerRequest>(pod, container);
  Collector collector = Collector::ForStop();
  {
    auto one_at_a_time = telling_.Lock();
    for (const PluginRef& plugin : Active()) {
      v1::StopContainerResponse response;
      Result<> told = plugin->Tell(v1::EVENT_STOP_CONTAINER, request, &response);
      if (told) told = collector.Update(response.update(), plugin->Name());
      if (!told) LogWarning("NRI plugin failed to handle an event, going on", {{"error", told.error()}});
    }
  }
  // For the one that stops it is too late, and its lock is the caller's.
  std::vector<v1::ContainerUpdate> updates = collector.updates();
  std::erase_if(updates, [&](const v1::ContainerUpdate& each) { return each.container_id() == container.id.str(); });
  if (Result<> applied = ApplyUpdates(ctx, updates); !applied) {
    LogWarning("what plugins want for containers cannot be done", {{"error", applied.error()}});
  }
}

Nri::Pass Nri::RemoveContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) {
  Pass pass = EnterBriefly(ctx);
  if (!Active().empty()) Inform(v1::EVENT_REMOVE_CONTAINER, About<v1::RemoveContainerRequest>(pod, container));
  return pass;
}

// All of them are tried; the first error that may not be ignored is the answer.
Result<> Nri::ApplyUpdates(const Ctx& ctx, const std::vector<v1::ContainerUpdate>& updates) {
  Result<> first;
  for (const v1::ContainerUpdate& update : updates) {
    Result<> done = ApplyUpdate(ctx.WithTimeout(kOtherContainerTimeout), update);
    if (done) continue;
    if (update.ignore_failure()) {
      LogInfo("an update that a plugin wants is not possible",
              {{"container", update.container_id()}, {"error", done.error()}});
    } else if (first) {
      first = std::move(done.error()).Context(StrCat("update of container ", update.container_id(), " by a plugin"));
    }
  }
  return first;
}

Result<> Nri::ApplyUpdate(const Ctx& ctx, const v1::ContainerUpdate& update) {
  Json resources = TRY(ResourcesToOci(update.linux().resources()));
  if (resources.empty()) return {};
  return pods_->AdjustResources(ctx, update.container_id(), DumpJson(resources));
}

}  // namespace crisp::nri
