// runp, stopp, rmp: the life of a pod.
#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct RunpOptions {
  std::string pod_file, handler, timeout;
};

Result<std::chrono::nanoseconds> TimeoutOr(const std::string& text, std::chrono::nanoseconds fallback) {
  if (text.empty()) return fallback;
  auto timeout = TRY(ParseDuration(text));
  return timeout == std::chrono::nanoseconds::zero() ? fallback : timeout;
}

Result<int> RunPod(Session& session, const RunpOptions& options) {
  cri::RunPodSandboxRequest request;
  TRY(ReadMessage(options.pod_file, *request.mutable_config()));
  request.set_runtime_handler(options.handler);
  auto timeout = TRY(TimeoutOr(options.timeout, kPodTimeout));
  Print(TRY(session.client->Call(&Client::Runtime::RunPodSandbox, request, timeout)).pod_sandbox_id() + "\n");
  return 0;
}

Result<> StopPod(Session& session, const std::string& text) {
  cri::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(TRY(FindPod(*session.client, text)));
  TRY(session.client->Call(&Client::Runtime::StopPodSandbox, request, kPodTimeout), StrCat("stop pod ", text));
  Print(StrCat("Stopped sandbox ", request.pod_sandbox_id(), "\n"));
  return {};
}

Result<> RemovePod(Session& session, const std::string& text, bool force) {
  std::string id = TRY(FindPod(*session.client, text));
  cri::PodSandboxStatusRequest status_request;
  status_request.set_pod_sandbox_id(id);
  if (force) {
    cri::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(id);
    TRY(session.client->Call(&Client::Runtime::StopPodSandbox, stop, kPodTimeout), StrCat("stop pod ", text));
    Print(StrCat("Stopped sandbox ", id, "\n"));
  } else if (TRY(session.client->Call(&Client::Runtime::PodSandboxStatus, status_request)).status().state() ==
             cri::SANDBOX_READY) {
    return Error(Code::kFailedPrecondition, StrCat("pod ", text, " is running, stop it first or use -f"));
  }
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  TRY(session.client->Call(&Client::Runtime::RemovePodSandbox, request, kPodTimeout), StrCat("remove pod ", text));
  Print(StrCat("Removed sandbox ", id, "\n"));
  return {};
}

Result<int> RemovePods(Session& session, std::vector<std::string> pods, bool all, bool force) {
  if (all) {
    pods.clear();
    for (const auto& pod : TRY(ListPods(*session.client, {}))) pods.push_back(pod.id());
  } else if (pods.empty()) {
    return Error(Code::kInvalidArgument, "rmp: name a pod, or -a for all");
  }
  return ForEach(session, pods, [&](const std::string& pod) { return RemovePod(session, pod, force); });
}

}  // namespace

void AddPodCommands(CLI::App& app, Session& session) {
  auto* runp = app.add_subcommand("runp", "run a pod sandbox; prints its id");
  auto options = std::make_shared<RunpOptions>();
  runp->add_option("POD-FILE", options->pod_file, "JSON or YAML; - is stdin")->required();
  runp->add_option("-r,--runtime", options->handler, "runtime handler");
  runp->add_option("-T,--cancel-timeout", options->timeout, "give up after this long");
  AddSchema(*runp, session, SchemaKind::kPod);
  SetAction(*runp, session, [=, &session] { return RunPod(session, *options); });

  auto* stopp = app.add_subcommand("stopp", "stop pods");
  auto stop_pods = std::make_shared<std::vector<std::string>>();
  stopp->add_option("POD", *stop_pods)->required();
  stopp->callback([&session, stop_pods] {
    session.action = [&session, stop_pods]() -> Result<int> {
      return ForEach(session, *stop_pods, [&](const std::string& pod) { return StopPod(session, pod); });
    };
  });

  auto* rmp = app.add_subcommand("rmp", "remove pods");
  auto pods = std::make_shared<std::vector<std::string>>();
  auto all = std::make_shared<bool>(false);
  auto force = std::make_shared<bool>(false);
  rmp->add_option("POD", *pods);
  rmp->add_flag("-a,--all", *all, "all pods");
  rmp->add_flag("-f,--force", *force, "stop them first");
  rmp->callback([=, &session] { session.action = [=, &session] { return RemovePods(session, *pods, *all, *force); }; });
}

}  // namespace crisp::ctl
