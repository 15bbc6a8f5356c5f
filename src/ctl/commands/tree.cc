// tree: pods with their containers under them, and under these their processes and cgroup.
#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/processes.h"

namespace crisp::ctl {

namespace {

Colour ColourOf(cri::ContainerState state) {
  return state == cri::CONTAINER_RUNNING  ? Colour::kGreen
         : state == cri::CONTAINER_EXITED ? Colour::kDim
                                          : Colour::kYellow;
}

// "CONTAINER_RUNNING" → "running".
std::string StateName(cri::ContainerState state) {
  std::string name = cri::ContainerState_Name(state);
  if (name.starts_with("CONTAINER_")) name.erase(0, 10);
  return Lower(std::move(name));
}

// Under a container's line. A container that has just gone has none.
Result<> PrintProcesses(Session& session, const cri::Container& container, const std::vector<NodeProcess>& all,
                        bool last) {
  if (container.state() != cri::CONTAINER_RUNNING) return {};
  cri::ContainerStatusRequest request;
  request.set_container_id(container.id());
  request.set_verbose(true);
  auto status = session.client->Call(&Client::Runtime::ContainerStatus, request);
  if (!status && status.error().code() == Code::kNotFound) return {};
  if (!status) return std::move(status).error();
  auto info = status->info().find("info");
  pid_t pid = info == status->info().end() ? 0 : PidOfInfo(info->second);
  const std::string margin = last ? "   " : "\u2502  ";
  std::optional<ContainerProcesses> processes = ProcessesOf(all, pid);
  if (!processes) {
    Print(margin + Paint("its processes are not to be seen from here", Colour::kDim, session.colours) + "\n");
    return {};
  }
  Print(margin + Paint("cgroup " + Printable(processes->cgroup), Colour::kDim, session.colours) + "\n");
  constexpr size_t kCommandWidth = 100;
  for (const ContainerProcesses::Line& line : processes->lines) {
    std::string command = Printable(line.process.command.substr(0, kCommandWidth));
    Print(StrCat(margin, std::string(static_cast<size_t>(line.depth) * 2, ' '), line.process.pid, "  ", command, "\n"));
  }
  return {};
}

Result<int> TreeCommand(Session& session, const ListFilter& filter, bool with_processes) {
  auto pods = TRY(ListPods(*session.client, filter));
  auto containers = TRY(ListContainers(*session.client, ListFilter{.all = true}));
  std::vector<NodeProcess> processes;
  if (with_processes) processes = TRY(NodeProcesses());
  int64_t now = UnixNanosNow();
  for (const auto& pod : pods) {
    bool ready = pod.state() == cri::SANDBOX_READY;
    Print(StrCat(Paint("\u25cf", ready ? Colour::kGreen : Colour::kRed, session.colours), " ",
                 Printable(StrCat(pod.metadata().namespace_(), "/", pod.metadata().name())), "  ", ShortId(pod.id()),
                 "  ", ready ? "ready" : "not ready", "  ", HumanAgo(pod.created_at(), now), "\n"));
    std::vector<const cri::Container*> own;
    for (const auto& container : containers) {
      if (container.pod_sandbox_id() == pod.id()) own.push_back(&container);
    }
    for (const cri::Container* container : own) {
      const cri::ImageSpec& image = container->image();
      Print(StrCat(container == own.back() ? "\u2514\u2500 " : "\u251c\u2500 ", Printable(container->metadata().name()),
                   "  ", ShortId(container->id()), "  ",
                   Paint(StateName(container->state()), ColourOf(container->state()), session.colours), "  ",
                   HumanAgo(container->created_at(), now), "  ",
                   Printable(image.user_specified_image().empty() ? image.image() : image.user_specified_image()),
                   "\n"));
      if (with_processes) TRY(PrintProcesses(session, *container, processes, container == own.back()));
    }
  }
  return 0;
}

}  // namespace

void AddTreeCommands(CLI::App& app, Session& session) {
  auto* tree = app.add_subcommand("tree", "pods, the containers in them, their processes and cgroups");
  auto filter = std::make_shared<ListFilter>();
  auto watch = std::make_shared<bool>(false);
  tree->add_option("--name", filter->name, "regular expression for the pod's name");
  tree->add_option("--namespace", filter->pod_namespace, "regular expression for the pod's namespace");
  auto processes = std::make_shared<bool>(false);
  tree->add_flag("-p,--processes", *processes, "the cgroup and the processes of each running container, too");
  tree->add_flag("-w,--watch", *watch, "again at each event");
  tree->callback([=, &session] {
    session.action = [=, &session] {
      auto print = [&] { return TreeCommand(session, *filter, *processes); };
      return *watch ? Watch(session, print) : print();
    };
  });
}

}  // namespace crisp::ctl
