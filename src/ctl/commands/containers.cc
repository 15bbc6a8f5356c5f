// create, start, run, stop, rm: the life of a container.
#include <cstdio>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

using std::chrono::nanoseconds;

// Options of create and run.
struct CreateOptions {
  std::string pod, container_file, pod_file, handler, timeout, pull_timeout;
  bool with_pull = false, no_pull = false;
  AuthOptions auth;
};

Result<nanoseconds> DurationOr(const std::string& text, nanoseconds fallback) {
  if (text.empty()) return fallback;
  nanoseconds value = TRY(ParseDuration(text));
  return value == nanoseconds::zero() ? fallback : value;
}

Result<std::string> Create(Session& session, const CreateOptions& options, const std::string& pod_id,
                           cri::CreateContainerRequest& request) {
  request.set_pod_sandbox_id(pod_id);
  nanoseconds timeout = TRY(DurationOr(options.timeout, kPodTimeout));
  return TRY(session.client->Call(&Client::Runtime::CreateContainer, request, timeout)).container_id();
}

Result<> PullFor(Session& session, const CreateOptions& options, const cri::CreateContainerRequest& request) {
  nanoseconds timeout = TRY(DurationOr(options.pull_timeout, Client::kNoTimeout));
  cri::AuthConfig auth = TRY(ToAuth(options.auth));
  TRY(EnsureImage(session, request.config().image(), auth, timeout, &request.sandbox_config()));
  for (const cri::Mount& mount : request.config().mounts()) {
    if (mount.image().image().empty()) continue;
    TRY(EnsureImage(session, mount.image(), auth, timeout, &request.sandbox_config()));
  }
  return {};
}

Result<> Start(Session& session, const std::string& id) {
  cri::StartContainerRequest request;
  request.set_container_id(id);
  TRY(session.client->Call(&Client::Runtime::StartContainer, request, kPodTimeout), StrCat("start container ", id));
  return {};
}

Result<cri::CreateContainerRequest> ReadCreateFiles(const CreateOptions& options) {
  cri::CreateContainerRequest request;
  TRY(ReadMessage(options.container_file, *request.mutable_config()));
  TRY(ReadMessage(options.pod_file, *request.mutable_sandbox_config()));
  cri::ImageSpec& image = *request.mutable_config()->mutable_image();
  if (image.user_specified_image().empty()) image.set_user_specified_image(image.image());  // as the kubelet does
  if (options.with_pull && options.no_pull) {
    return Error(Code::kInvalidArgument, "--with-pull and --no-pull exclude each other: give one of them");
  }
  return request;
}

Result<int> CreateCommand(Session& session, const CreateOptions& options) {
  cri::CreateContainerRequest request = TRY(ReadCreateFiles(options));
  std::string pod = TRY(FindPod(*session.client, options.pod));
  if (options.with_pull || (session.pull_on_create && !options.no_pull)) TRY(PullFor(session, options, request));
  Print(TRY(Create(session, options, pod, request)) + "\n");
  return 0;
}

// Pod, container and start in one; what was made goes away again when a later step fails.
Result<int> RunCommand(Session& session, const CreateOptions& options) {
  cri::CreateContainerRequest request = TRY(ReadCreateFiles(options));
  if (options.with_pull || !(options.no_pull || session.no_pull_on_run)) TRY(PullFor(session, options, request));
  cri::RunPodSandboxRequest run;
  *run.mutable_config() = request.sandbox_config();
  run.set_runtime_handler(options.handler);
  nanoseconds timeout = TRY(DurationOr(options.timeout, kPodTimeout));
  std::string pod = TRY(session.client->Call(&Client::Runtime::RunPodSandbox, run, timeout)).pod_sandbox_id();
  auto container = Create(session, options, pod, request);
  Result<> started = container ? Start(session, *container) : Result<>(container.error());
  if (!started) {
    cri::RemovePodSandboxRequest remove;
    remove.set_pod_sandbox_id(pod);
    if (auto removed = session.client->Call(&Client::Runtime::RemovePodSandbox, remove, kPodTimeout); !removed) {
      PrintError(session, std::move(removed.error()).Context(StrCat("remove pod ", pod, ", which is left")));
    }
    return std::move(started).error();
  }
  Print(*container + "\n");
  return 0;
}

Result<> StopOne(Session& session, const std::string& text, int64_t grace_seconds) {
  cri::StopContainerRequest request;
  request.set_container_id(TRY(FindContainer(*session.client, text)));
  request.set_timeout(grace_seconds);
  nanoseconds timeout = std::chrono::seconds(grace_seconds) + kPodTimeout;
  TRY(session.client->Call(&Client::Runtime::StopContainer, request, timeout), StrCat("stop container ", text));
  Print(request.container_id() + "\n");
  return {};
}

Result<int> StopCommand(Session& session, std::vector<std::string> containers, bool all, int64_t grace_seconds) {
  if (all) {
    containers.clear();
    for (const auto& container : TRY(ListContainers(*session.client, {}))) containers.push_back(container.id());
  } else if (containers.empty()) {
    return Error(Code::kInvalidArgument, "stop: name a container, or -a for all");
  }
  return ForEach(session, containers, [&](const std::string& text) { return StopOne(session, text, grace_seconds); });
}

struct RmOptions {
  std::vector<std::string> containers;
  bool all = false, force = false, keep_logs = false;
};

Result<> RemoveContainer(Session& session, const std::string& text, const RmOptions& options) {
  std::string id = TRY(FindContainer(*session.client, text));
  cri::ContainerStatusRequest ask;
  ask.set_container_id(id);
  cri::ContainerStatus status = TRY(session.client->Call(&Client::Runtime::ContainerStatus, ask)).status();
  if (status.state() == cri::CONTAINER_RUNNING) {
    if (!options.force) {
      return Error(Code::kFailedPrecondition, StrCat("container ", text, " is running, stop it first or use -f"));
    }
    cri::StopContainerRequest stop;
    stop.set_container_id(id);
    TRY(session.client->Call(&Client::Runtime::StopContainer, stop, kPodTimeout), StrCat("stop container ", text));
  }
  cri::RemoveContainerRequest request;
  request.set_container_id(id);
  TRY(session.client->Call(&Client::Runtime::RemoveContainer, request, kPodTimeout), StrCat("remove container ", text));
  // The log belongs to whoever named its path, which is us here and the kubelet in a cluster.
  if (!options.keep_logs && !status.log_path().empty()) std::remove(status.log_path().c_str());
  Print(id + "\n");
  return {};
}

Result<int> RmCommand(Session& session, RmOptions options) {
  if (options.all) {
    options.containers.clear();
    ListFilter every{.all = true};
    for (const auto& container : TRY(ListContainers(*session.client, every)))
      options.containers.push_back(container.id());
  } else if (options.containers.empty()) {
    return Error(Code::kInvalidArgument, "rm: name a container, or -a for all");
  }
  return ForEach(session, options.containers,
                 [&](const std::string& text) { return RemoveContainer(session, text, options); });
}

void AddCreateOptions(CLI::App& command, CreateOptions& options) {
  AddAuth(command, options.auth);
  command.add_option("--pull-timeout,--pt", options.pull_timeout, "for the image")->envname("CRICTL_PULL_TIMEOUT");
  command.add_flag("--with-pull", options.with_pull, "pull the image where it is missing");
  command.add_flag("--no-pull", options.no_pull, "never pull");
  command.add_option("-T,--cancel-timeout", options.timeout, "give up after this long");
}

void AddCreateAndRun(CLI::App& app, Session& session) {
  auto* create = app.add_subcommand("create", "create a container in a pod; prints its id");
  auto options = std::make_shared<CreateOptions>();
  create->add_option("POD", options->pod)->required();
  create->add_option("CONTAINER-FILE", options->container_file, "JSON or YAML; - is stdin")->required();
  create->add_option("POD-FILE", options->pod_file)->required();
  AddCreateOptions(*create, *options);
  AddSchema(*create, session, SchemaKind::kChosen);
  SetAction(*create, session, [=, &session] { return CreateCommand(session, *options); });

  auto* run = app.add_subcommand("run", "run a pod with one container; prints the container's id");
  auto run_options = std::make_shared<CreateOptions>();
  run->add_option("CONTAINER-FILE", run_options->container_file, "JSON or YAML; - is stdin")->required();
  run->add_option("POD-FILE", run_options->pod_file)->required();
  run->add_option("-r,--runtime", run_options->handler, "runtime handler");
  AddCreateOptions(*run, *run_options);
  AddSchema(*run, session, SchemaKind::kChosen);
  SetAction(*run, session, [=, &session] { return RunCommand(session, *run_options); });

  auto* start = app.add_subcommand("start", "start created containers");
  auto containers = std::make_shared<std::vector<std::string>>();
  start->add_option("CONTAINER", *containers)->required();
  start->callback([=, &session] {
    session.action = [=, &session]() -> Result<int> {
      return ForEach(session, *containers, [&](const std::string& text) -> Result<> {
        std::string id = TRY(FindContainer(*session.client, text));
        TRY(Start(session, id));
        Print(text + "\n");
        return {};
      });
    };
  });
}

void AddStopAndRm(CLI::App& app, Session& session) {
  auto* stop = app.add_subcommand("stop", "stop containers");
  auto containers = std::make_shared<std::vector<std::string>>();
  auto all = std::make_shared<bool>(false);
  auto grace = std::make_shared<int64_t>(0);
  stop->add_option("CONTAINER", *containers);
  stop->add_flag("-a,--all", *all, "all running containers");
  stop->add_option("-t,--timeout", *grace, "seconds between the stop signal and the kill (0: kill)");
  stop->callback(
      [=, &session] { session.action = [=, &session] { return StopCommand(session, *containers, *all, *grace); }; });

  auto* rm = app.add_subcommand("rm", "remove containers");
  auto options = std::make_shared<RmOptions>();
  rm->add_option("CONTAINER", options->containers);
  rm->add_flag("-a,--all", options->all, "all containers");
  rm->add_flag("-f,--force", options->force, "running ones too");
  rm->add_flag("-k,--keep-logs", options->keep_logs, "leave the log file");
  rm->callback([=, &session] { session.action = [=, &session] { return RmCommand(session, *options); }; });
}

}  // namespace

void AddContainerCommands(CLI::App& app, Session& session) {
  AddCreateAndRun(app, session);
  AddStopAndRm(app, session);
}

}  // namespace crisp::ctl
