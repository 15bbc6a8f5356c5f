// pods, ps, inspectp, inspect: what there is.
#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/describe.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct ListOptions {
  ListFilter filter;
  OutputOption output;
  std::vector<std::string> ids;  // of inspect
  bool quiet = false, no_trunc = false, verbose = false, resolve_image = false, watch = false, timing = false;
};

std::string Id(const std::string& id, const ListOptions& options) { return options.no_trunc ? id : ShortId(id); }

template <class Items>
void PrintIds(const Items& items) {
  for (const auto& item : items) Print(item.id() + "\n");
}

Result<int> PodsCommand(Session& session, const ListOptions& options) {
  Output format = TRY(options.output.Get());
  auto pods = TRY(ListPods(*session.client, options.filter));
  if (!format.IsTable()) {
    cri::ListPodSandboxResponse list;
    for (const auto& pod : pods) *list.add_items() = pod;
    TRY(PrintMessage(list, format));
    return 0;
  }
  if (options.quiet) {
    PrintIds(pods);
    return 0;
  }
  if (options.verbose) {
    for (const auto& pod : pods) Print(DescribePod(pod) + "\n");
    return 0;
  }
  Table table({"POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"});
  int64_t now = UnixNanosNow();
  for (const auto& pod : pods) {
    bool ready = pod.state() == cri::SANDBOX_READY;
    table.Add({Id(pod.id(), options), HumanAgo(pod.created_at(), now),
               Cell(ready ? "Ready" : "NotReady", ready ? Colour::kGreen : Colour::kRed), pod.metadata().name(),
               pod.metadata().namespace_(), StrCat(pod.metadata().attempt()),
               pod.runtime_handler().empty() ? "(default)" : pod.runtime_handler()});
  }
  Print(table.Render(session.colours));
  return 0;
}

Cell StateCell(cri::ContainerState state) {
  switch (state) {
    case cri::CONTAINER_CREATED: return {"Created", Colour::kYellow};
    case cri::CONTAINER_RUNNING: return {"Running", Colour::kGreen};
    case cri::CONTAINER_EXITED: return {"Exited", Colour::kDim};
    default: return {"Unknown", Colour::kRed};
  }
}

// What the user asked for, unless that was an id.
std::string ImageCell(const cri::Container& container, const ListOptions& options) {
  const std::string& name = container.image().user_specified_image().empty() ? container.image().image()
                                                                             : container.image().user_specified_image();
  bool is_id = name.starts_with("sha256:") || (name.size() == 64 && name.find_first_of(":/") == std::string::npos);
  if (options.resolve_image || !is_id) return name;
  return Id(name, options);
}

// Each image's first name in place of an id or another name.
void ResolveImages(Session& session, std::vector<cri::Container>& containers) {
  std::map<std::string, std::string> names;
  for (cri::Container& container : containers) {
    auto [known, missing] = names.emplace(container.image().image(), container.image().image());
    if (missing) {
      cri::ImageStatusRequest request;
      request.mutable_image()->set_image(known->first);
      auto answer = session.client->Call(&Client::Images::ImageStatus, request);
      if (answer && answer->image().repo_tags_size() > 0) known->second = answer->image().repo_tags(0);
    }
    container.mutable_image()->clear_user_specified_image();
    container.mutable_image()->set_image(known->second);
  }
}

Result<int> PsCommand(Session& session, const ListOptions& options) {
  Output format = TRY(options.output.Get());
  auto containers = TRY(ListContainers(*session.client, options.filter));
  if (!format.IsTable()) {
    cri::ListContainersResponse list;
    for (const auto& container : containers) *list.add_containers() = container;
    TRY(PrintMessage(list, format));
    return 0;
  }
  if (options.quiet) {
    PrintIds(containers);
    return 0;
  }
  std::map<std::string, cri::PodSandboxMetadata> pods;
  auto pod_list = TRY(session.client->Call(&Client::Runtime::ListPodSandbox, {}));
  for (const auto& pod : pod_list.items()) {
    pods[pod.id()] = pod.metadata();
  }
  int64_t now = UnixNanosNow();
  if (options.verbose) {
    for (const auto& container : containers) {
      Print(DescribeContainer(container, pods[container.pod_sandbox_id()], now) + "\n");
    }
    return 0;
  }
  if (options.resolve_image) ResolveImages(session, containers);
  Table table({"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"});
  for (const auto& container : containers) {
    const cri::PodSandboxMetadata& pod = pods[container.pod_sandbox_id()];
    table.Add({Id(container.id(), options), ImageCell(container, options), HumanAgo(container.created_at(), now),
               StateCell(container.state()), container.metadata().name(), StrCat(container.metadata().attempt()),
               Id(container.pod_sandbox_id(), options), pod.name().empty() ? "unknown" : pod.name(), pod.namespace_()});
  }
  Print(table.Render(session.colours));
  return 0;
}

template <class Info>
std::map<std::string, std::string> InfoMap(const Info& info) {
  return {info.begin(), info.end()};
}

// With `table` it is printed in lines, and nothing is returned.
Result<Json> InspectPod(Session& session, const std::string& text, bool quiet, bool table) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(TRY(FindPod(*session.client, text)));
  request.set_verbose(!quiet);
  auto answer = TRY(session.client->Call(&Client::Runtime::PodSandboxStatus, request));
  if (table) {
    Print(DescribePodStatus(answer.status()) + (quiet ? "" : DescribeInfo(InfoMap(answer.info()))));
    return Json();
  }
  Json document = TRY(StatusToJson(answer.status(), InfoMap(answer.info())));
  UnsetToNull(answer.status(), document["status"]);
  return document;
}

Result<Json> InspectContainer(Session& session, const std::string& text, bool quiet, bool table) {
  cri::ContainerStatusRequest request;
  request.set_container_id(TRY(FindContainer(*session.client, text)));
  request.set_verbose(!quiet);
  auto answer = TRY(session.client->Call(&Client::Runtime::ContainerStatus, request));
  if (table) {
    Print(DescribeContainerStatus(answer.status(), UnixNanosNow()) +
          (quiet ? "" : DescribeInfo(InfoMap(answer.info()))));
    return Json();
  }
  Json document = TRY(StatusToJson(answer.status(), InfoMap(answer.info())));
  UnsetToNull(answer.status(), document["status"]);
  return document;
}

// Once, or again and again.
Result<int> List(Session& session, const ListOptions& options,
                 Result<int> (*command)(Session& session, const ListOptions& options)) {
  auto print = [&] { return command(session, options); };
  return options.watch ? Watch(session, print) : print();
}

bool HasFilter(const ListFilter& f) {
  return f.all || f.latest || f.last > 0 || !f.name.empty() || !f.pod_namespace.empty() || !f.image.empty() ||
         !f.state.empty() || !f.labels.empty() || !f.pod.empty() || !f.id.empty();
}

template <class List, class Inspect>
Result<int> InspectCommand(Session& session, const ListOptions& options, List list, Inspect inspect) {
  Output format = TRY(options.output.Get());
  std::vector<std::string> ids = options.ids;
  if (ids.empty() && HasFilter(options.filter)) {
    for (const auto& item : TRY(list(*session.client, options.filter))) ids.push_back(item.id());
  } else if (ids.empty()) {
    return Error(Code::kInvalidArgument, "name what to inspect, or choose by -a, -l, -n, --name, --label or --state");
  }
  if (options.timing) return ForEach(session, ids, [&](const std::string& id) { return PrintTimings(session, id); });
  std::vector<Json> statuses;
  int code = ForEach(session, ids, [&](const std::string& id) -> Result<> {
    statuses.push_back(TRY(inspect(session, id, options.quiet, format.IsTable())));
    return {};
  });
  if (!format.IsTable()) TRY(PrintStatuses(std::move(statuses), format));
  return code;
}

// Filters of pods and containers alike.
void AddFilters(CLI::App& command, ListOptions& options, const char* states) {
  ListFilter& filter = options.filter;
  command.add_option("--label", filter.labels, "key=value, repeated")->allow_extra_args(false);
  command.add_option("--name", filter.name, "regular expression for the name");
  command.add_option("--namespace", filter.pod_namespace, "regular expression for the pod's namespace");
  command.add_option("-s,--state", filter.state, states);
  command.add_flag("-l,--latest", filter.latest, "only the newest");
  command.add_option("-n,--last", filter.last, "only the newest N");
}

void AddContainerFilters(CLI::App& command, ListOptions& options) {
  AddFilters(command, options, "created, running, exited or unknown");
  command.add_flag("-a,--all", options.filter.all, "not only the running ones");
  command.add_option("--image", options.filter.image, "part of the image's name");
  command.add_option("-p,--pod", options.filter.pod, "of this pod");
}

void AddListOutput(CLI::App& command, ListOptions& options) {
  AddOutput(command, options.output, "table");
  command.add_option("--id", options.filter.id, "beginning of the id");
  command.add_flag("-q,--quiet", options.quiet, "only ids");
  command.add_flag("-w,--watch", options.watch, "again at each event");
  command.add_flag("--no-trunc", options.no_trunc, "whole ids");
  command.add_flag("-v,--verbose", options.verbose, "everything");
}

void AddInspectOutput(CLI::App& command, ListOptions& options) {
  AddOutput(command, options.output, "json");
  command.add_flag("-q,--quiet", options.quiet, "only the status, without the runtime's own details");
}

}  // namespace

void AddListCommands(CLI::App& app, Session& session) {
  auto* pods = app.add_subcommand("pods", "list pods");
  auto pod_options = std::make_shared<ListOptions>();
  AddFilters(*pods, *pod_options, "ready or notready");
  AddListOutput(*pods, *pod_options);
  pods->callback(
      [=, &session] { session.action = [=, &session] { return List(session, *pod_options, PodsCommand); }; });

  auto* ps = app.add_subcommand("ps", "list containers");
  auto ps_options = std::make_shared<ListOptions>();
  AddContainerFilters(*ps, *ps_options);
  AddListOutput(*ps, *ps_options);
  ps->add_flag("-r,--resolve-image-path", ps_options->resolve_image, "the image's name, never its id");
  ps->callback([=, &session] { session.action = [=, &session] { return List(session, *ps_options, PsCommand); }; });

  auto* inspectp = app.add_subcommand("inspectp", "show everything about pods");
  auto inspectp_options = std::make_shared<ListOptions>();
  inspectp->add_option("POD", inspectp_options->ids);
  AddFilters(*inspectp, *inspectp_options, "ready or notready");
  AddInspectOutput(*inspectp, *inspectp_options);
  inspectp->add_flag("--timing", inspectp_options->timing, "only where the time of its start went (crispd only)");
  inspectp->callback([=, &session] {
    session.action = [=, &session] { return InspectCommand(session, *inspectp_options, ListPods, InspectPod); };
  });

  auto* inspect = app.add_subcommand("inspect", "show everything about containers");
  auto inspect_options = std::make_shared<ListOptions>();
  inspect->add_option("CONTAINER", inspect_options->ids);
  AddContainerFilters(*inspect, *inspect_options);
  AddInspectOutput(*inspect, *inspect_options);
  inspect->callback([=, &session] {
    session.action = [=, &session] {
      return InspectCommand(session, *inspect_options, ListContainers, InspectContainer);
    };
  });
}

}  // namespace crisp::ctl
