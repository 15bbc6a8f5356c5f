// tree: pods with their containers under them.
#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

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

Result<int> TreeCommand(Session& session, const ListFilter& filter) {
  auto pods = TRY(ListPods(*session.client, filter));
  auto containers = TRY(ListContainers(*session.client, ListFilter{.all = true}));
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
    }
  }
  return 0;
}

}  // namespace

void AddTreeCommands(CLI::App& app, Session& session) {
  auto* tree = app.add_subcommand("tree", "pods and the containers in them");
  auto filter = std::make_shared<ListFilter>();
  auto watch = std::make_shared<bool>(false);
  tree->add_option("--name", filter->name, "regular expression for the pod's name");
  tree->add_option("--namespace", filter->pod_namespace, "regular expression for the pod's namespace");
  tree->add_flag("-w,--watch", *watch, "again at each event");
  tree->callback([=, &session] {
    session.action = [=, &session] {
      auto print = [&] { return TreeCommand(session, *filter); };
      return *watch ? Watch(session, print) : print();
    };
  });
}

}  // namespace crisp::ctl
