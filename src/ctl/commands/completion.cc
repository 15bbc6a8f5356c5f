// completion: scripts for shells. They ask `crispctl __complete WORDS…` for candidates, so that what they offer is
// always what this program knows, pods and containers included.
#include <algorithm>

#include "base/strings.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

constexpr const char* kBash = R"(# crispctl completion for bash: source <(crispctl completion bash)
_crispctl() {
  local IFS=$'\n'
  COMPREPLY=($(crispctl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _crispctl crispctl
)";
constexpr const char* kZsh = R"(#compdef crispctl
# crispctl completion for zsh: source <(crispctl completion zsh)
_crispctl() {
  local -a candidates
  candidates=("${(@f)$(crispctl __complete "${words[@]:1:$((CURRENT-1))}" 2>/dev/null)}")
  compadd -a candidates || _files
}
compdef _crispctl crispctl
)";
constexpr const char* kFish = R"(# crispctl completion for fish: crispctl completion fish | source
function __crispctl
  set -l words (commandline -opc) (commandline -ct)
  crispctl __complete $words[2..-1] 2>/dev/null
end
complete -c crispctl -a '(__crispctl)'
)";

std::vector<std::string> Options(CLI::App& command) {
  std::vector<std::string> names;
  for (CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

bool Takes(CLI::App& command, const std::string& positional) {
  // exec takes its words as they come.
  if (command.get_name() == "exec") return positional == "CONTAINER";
  auto options = command.get_options();
  return std::any_of(options.begin(), options.end(),
                     [&](CLI::Option* option) { return option->get_name(true).starts_with(positional); });
}

// Names of what the command works on; errors give none.
std::vector<std::string> Objects(Session& session, CLI::App& command) {
  std::vector<std::string> names;
  ListFilter every{.all = true};
  if (Takes(command, "CONTAINER")) {
    if (auto list = ListContainers(*session.client, every)) {
      for (const auto& container : *list) names.push_back(container.id().substr(0, 13));
    }
  } else if (Takes(command, "POD")) {
    if (auto list = ListPods(*session.client, every)) {
      for (const auto& pod : *list) names.push_back(pod.id().substr(0, 13));
    }
  } else if (Takes(command, "IMAGE") || command.get_name() == "images") {
    if (auto list = session.client->Call(&Client::Images::ListImages, {})) {
      for (const auto& image : list->images())
        names.insert(names.end(), image.repo_tags().begin(), image.repo_tags().end());
    }
  }
  return names;
}

Result<int> Complete(CLI::App& app, Session& session, std::vector<std::string> words) {
  std::string current = words.empty() ? "" : words.back();
  if (!words.empty()) words.pop_back();
  CLI::App* command = &app;
  for (const std::string& word : words) {
    for (CLI::App* sub : command->get_subcommands([](CLI::App*) { return true; })) {
      if (!sub->check_name(word)) continue;
      command = sub;
      break;
    }
  }
  std::vector<std::string> candidates;
  if (current.starts_with('-')) {
    candidates = Options(*command);
  } else {
    for (CLI::App* sub : command->get_subcommands([](CLI::App* s) { return !s->get_group().empty(); })) {
      candidates.push_back(sub->get_name());
    }
    if (command != &app) {
      auto objects = Objects(session, *command);
      candidates.insert(candidates.end(), objects.begin(), objects.end());
    }
  }
  for (const std::string& candidate : candidates) {
    if (candidate.starts_with(current)) Print(candidate + "\n");
  }
  return 0;
}

Result<int> Script(const std::string& shell) {
  if (shell == "bash")
    Print(kBash);
  else if (shell == "zsh")
    Print(kZsh);
  else if (shell == "fish")
    Print(kFish);
  else
    return Error(Code::kInvalidArgument, StrCat("no completion for ", Quote(shell), " (bash, zsh, fish)"));
  return 0;
}

}  // namespace

void AddCompletionCommands(CLI::App& app, Session& session) {
  auto* completion = app.add_subcommand("completion", "a completion script for bash, zsh or fish");
  auto shell = std::make_shared<std::string>("bash");
  completion->add_option("SHELL", *shell);
  completion->callback([=, &session] { session.action = [=] { return Script(*shell); }; });

  auto* complete = app.add_subcommand("__complete", "")->group("");
  complete->prefix_command();
  complete->callback([=, &session, &app] {
    std::vector<std::string> words = complete->remaining();
    session.action = [&session, &app, words] { return Complete(app, session, words); };
  });
}

}  // namespace crisp::ctl
