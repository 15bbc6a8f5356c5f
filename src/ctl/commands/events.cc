// events: what happens to containers, as it happens; and --watch of the lists, which is driven by it.
#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct EventOptions {
  OutputOption output;
  std::vector<std::string> types, labels;
  std::string pod, container, pod_namespace;
};

// "CONTAINER_STARTED_EVENT" → "started".
std::string TypeName(cri::ContainerEventType type) {
  switch (type) {
    case cri::CONTAINER_CREATED_EVENT: return "created";
    case cri::CONTAINER_STARTED_EVENT: return "started";
    case cri::CONTAINER_STOPPED_EVENT: return "stopped";
    case cri::CONTAINER_DELETED_EVENT: return "deleted";
    default: return "unknown";
  }
}

std::string ContainerName(const cri::ContainerEventResponse& event) {
  for (const auto& status : event.containers_statuses()) {
    if (status.id() == event.container_id()) return status.metadata().name();
  }
  return event.container_id() == event.pod_sandbox_status().id() ? "(pod)" : "";
}

Result<> CheckOptions(const EventOptions& options) {
  for (const std::string& type : options.types) {
    if (type == "created" || type == "started" || type == "stopped" || type == "deleted") continue;
    return Error(Code::kInvalidArgument,
                 StrCat("unknown type of event ", Quote(type), " (created, started, stopped, deleted)"));
  }
  for (const std::string& label : options.labels) {
    if (label.find('=') == std::string::npos)
      return Error(Code::kInvalidArgument, StrCat("no key=value label: ", Quote(label)));
  }
  return {};
}

bool Wanted(const cri::ContainerEventResponse& event, const EventOptions& options) {
  const cri::PodSandboxStatus& pod = event.pod_sandbox_status();
  auto fits = [](const std::string& wanted, const std::string& id, const std::string& name) {
    return wanted.empty() || id.starts_with(wanted) || name == wanted;
  };
  const auto& types = options.types;
  if (!types.empty() && std::ranges::find(types, TypeName(event.container_event_type())) == types.end()) return false;
  if (!fits(options.pod, pod.id(), pod.metadata().name())) return false;
  if (!fits(options.container, event.container_id(), ContainerName(event))) return false;
  if (!options.pod_namespace.empty() && pod.metadata().namespace_() != options.pod_namespace) return false;
  return std::ranges::all_of(options.labels, [&](const std::string& label) {
    size_t equals = label.find('=');
    auto found = pod.labels().find(label.substr(0, equals));
    return found != pod.labels().end() && found->second == label.substr(equals + 1);
  });
}

// A stream has no header that would fit what comes later: one line per event, the parts with blanks between.
std::string Line(const cri::ContainerEventResponse& event, Colours colours) {
  auto type = event.container_event_type();
  Colour colour = type == cri::CONTAINER_STARTED_EVENT   ? Colour::kGreen
                  : type == cri::CONTAINER_CREATED_EVENT ? Colour::kYellow
                                                         : Colour::kDim;
  const auto& pod = event.pod_sandbox_status().metadata();
  std::string name = ContainerName(event);
  return StrCat(FormatRfc3339Nano(event.created_at()), "  ", Paint(TypeName(type), colour, colours), "  ",
                ShortId(event.container_id()), "  ", Printable(name.empty() ? "-" : name), "  ",
                Printable(StrCat(pod.namespace_(), "/", pod.name())), "\n");
}

// Calls `take` with nullptr once the events were asked for, then with each, until the runtime ends the stream.
Result<> ForEachEvent(Session& session, const std::function<Result<>(const cri::ContainerEventResponse*)>& take) {
  grpc::ClientContext context;
  auto reader = session.client->runtime().GetContainerEvents(&context, {});
  cri::ContainerEventResponse event;
  Result<> taken = take(nullptr);
  while (taken && reader->Read(&event)) taken = take(&event);
  if (!taken) {
    context.TryCancel();
    (void)reader->Finish();
    return taken;
  }
  grpc::Status status = reader->Finish();
  if (!status.ok()) return FromStatus(status, session.client->runtime_endpoint());
  return {};
}

Result<int> EventsCommand(Session& session, const EventOptions& options) {
  Output format = TRY(options.output.Get());
  TRY(CheckOptions(options));
  auto show = [&](const cri::ContainerEventResponse* event) -> Result<> {
    if (event == nullptr || !Wanted(*event, options)) return {};
    if (format.IsTable()) {
      Print(Line(*event, session.colours));
    } else {
      if (format.format == OutputFormat::kYaml) Print("---\n");
      TRY(PrintMessage(*event, format));
    }
    if (std::fflush(stdout) != 0) return Errno(errno, "write the event");
    return {};
  };
  TRY(ForEachEvent(session, show));
  return 0;
}

}  // namespace

Result<int> Watch(Session& session, const std::function<Result<int>()>& print) {
  // First right behind the question for events: what happens meanwhile is seen in the next list.
  auto show = [&](const cri::ContainerEventResponse*) -> Result<> {
    if (session.terminal) Print("\033[H\033[2J");
    TRY(print());
    if (std::fflush(stdout) != 0) return Errno(errno, "write the list");
    return {};
  };
  TRY(ForEachEvent(session, show));
  return 0;
}

void AddEventCommands(CLI::App& app, Session& session) {
  auto* events = app.add_subcommand("events", "what happens to containers, as it happens")->alias("event");
  auto options = std::make_shared<EventOptions>();
  AddOutput(*events, options->output, "json");
  events->add_option("--type", options->types, "created, started, stopped or deleted; repeated")
      ->allow_extra_args(false);
  events->add_option("-p,--pod", options->pod, "of this pod: name or beginning of its id");
  events->add_option("--container", options->container, "of this container: name or beginning of its id");
  events->add_option("--namespace", options->pod_namespace, "of pods of this namespace");
  events->add_option("--label", options->labels, "of pods with this label, key=value, repeated")
      ->allow_extra_args(false);
  events->callback([=, &session] { session.action = [=, &session] { return EventsCommand(session, *options); }; });
}

}  // namespace crisp::ctl
