// completion: scripts for shells. They ask `crispctl __complete WORDS…` for candidates, so that what they offer is
// always what this program knows, pods and containers included.
#include <algorithm>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/settings.h"

namespace crisp::ctl {

namespace {

// {P} is the program, as it was called. bash cuts words at colons and equals signs: the line is cut at blanks instead,
// and of what is offered only the part behind the last colon replaces what bash thinks is the word.
constexpr const char* kBash = R"(# {P} completion for bash: source <({P} completion bash)
_{P}() {
  local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} words word
  read -ra words <<< "$line"
  [[ $line == *[[:blank:]] ]] && words+=("")
  word=${words[-1]}
  IFS=$'\n'
  COMPREPLY=($({P} __complete "${words[@]:1}" 2>/dev/null))
  [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%:*}:"}")
}
complete -o default -F _{P} {P}
)";
constexpr const char* kZsh = R"(#compdef {P}
# {P} completion for zsh: source <({P} completion zsh)
_{P}() {
  local -a candidates
  candidates=("${(@f)$({P} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n $candidates ]] && compadd -a candidates || _files
}
compdef _{P} {P}
)";
constexpr const char* kFish = R"(# {P} completion for fish: {P} completion fish | source
function __{P}
  set -l words (commandline -opc) (commandline -ct)
  {P} __complete $words[2..-1] 2>/dev/null
end
complete -c {P} -a '(__{P})'
)";

// What options with few values take. An option of another command by the same name takes something else.
struct Values {
  const char* command;  // "": of any
  const char* option;
  std::vector<std::string> values;
};
const std::vector<Values>& KnownValues() {
  static const std::vector<std::string> kContainerStates = {"created", "running", "exited", "unknown"};
  static const std::vector<Values> kValues = {
      {"trace", "output", {"text", "svg"}},
      {"", "output", {"json", "yaml", "go-template", "table"}},
      {"pods", "state", {"ready", "notready"}},
      {"inspectp", "state", {"ready", "notready"}},
      {"", "state", kContainerStates},
      {"", "transport", {"spdy", "websocket"}},
      {"logs", "stream", {"all", "stdout", "stderr"}},
      {"events", "type", {"created", "started", "stopped", "deleted"}},
      {"top", "sort", {"cpu", "mem", "disk", "name"}},
      {"config", "get", SettingNames()},
  };
  return kValues;
}

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

enum class Kind { kNone, kContainer, kPod, kImage };

// Names of what there is; errors give none.
std::vector<std::string> Objects(Session& session, Kind kind) {
  std::vector<std::string> names;
  if (kind == Kind::kContainer) {
    if (auto list = ListContainers(*session.client, {.all = true})) {
      for (const auto& container : *list) names.push_back(ShortId(container.id()));
    }
  } else if (kind == Kind::kPod) {
    if (auto list = ListPods(*session.client, {})) {
      for (const auto& pod : *list) names.push_back(ShortId(pod.id()));
    }
  } else if (kind == Kind::kImage) {
    if (auto list = session.client->Call(&Client::Images::ListImages, {})) {
      for (const auto& image : list->images())
        names.insert(names.end(), image.repo_tags().begin(), image.repo_tags().end());
    }
  }
  return names;
}

// The option that `word` is, when its value stands in the next word.
CLI::Option* OptionThatWaits(CLI::App& command, const std::string& word) {
  if (!word.starts_with('-') || word.find('=') != std::string::npos) return nullptr;
  CLI::Option* option = command.get_option_no_throw(word);
  return option != nullptr && option->get_items_expected_max() > 0 ? option : nullptr;
}

std::vector<std::string> ValuesOf(Session& session, CLI::App& command, const CLI::Option& option) {
  if (option.check_lname("pod")) return Objects(session, Kind::kPod);
  if (option.check_lname("container")) return Objects(session, Kind::kContainer);
  for (const Values& known : KnownValues()) {
    if (option.check_lname(known.option) && (*known.command == '\0' || command.get_name() == known.command)) {
      return known.values;
    }
  }
  return {};
}

std::vector<std::string> WordsOf(Session& session, CLI::App& app, CLI::App& command) {
  std::vector<std::string> words;
  for (CLI::App* sub : command.get_subcommands([](CLI::App* s) { return !s->get_group().empty(); })) {
    words.push_back(sub->get_name());
  }
  if (&command == &app) return words;
  if (Takes(command, "SHELL")) return {"bash", "zsh", "fish"};
  if (Takes(command, "COMMAND")) return CommandNames(app);
  Kind kind = Takes(command, "CONTAINER")                                 ? Kind::kContainer
              : Takes(command, "POD")                                     ? Kind::kPod
              : Takes(command, "IMAGE") || command.get_name() == "images" ? Kind::kImage
                                                                          : Kind::kNone;
  auto objects = Objects(session, kind);
  words.insert(words.end(), objects.begin(), objects.end());
  return words;
}

// `words`: what stands on the line behind the program's name, the last one being written.
Result<int> Complete(CLI::App& app, Session& session, std::vector<std::string> words) {
  std::string current = words.empty() ? "" : words.back();
  if (!words.empty()) words.pop_back();
  CLI::App* command = &app;
  CLI::Option* waiting = nullptr;
  for (const std::string& word : words) {
    if (waiting != nullptr) {
      // Whom the line would ask is whom we ask.
      if (waiting->check_lname("runtime-endpoint")) {
        session.client = std::make_unique<Client>(word, word, session.timeout);
      }
      waiting = nullptr;
      continue;
    }
    waiting = OptionThatWaits(*command, word);
    for (CLI::App* sub : command->get_subcommands([](CLI::App*) { return true; })) {
      if (!sub->check_name(word)) continue;
      command = sub;
      break;
    }
  }
  std::vector<std::string> candidates = waiting != nullptr         ? ValuesOf(session, *command, *waiting)
                                        : current.starts_with('-') ? Options(*command)
                                                                   : WordsOf(session, app, *command);
  for (const std::string& candidate : candidates) {
    if (candidate.starts_with(current)) Print(candidate + "\n");
  }
  return 0;
}

Result<int> Script(const Session& session, const std::string& shell) {
  const char* script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : shell == "fish" ? kFish : nullptr;
  if (script == nullptr) {
    return Error(Code::kInvalidArgument, StrCat("no completion for ", Quote(shell), " (bash, zsh, fish)"));
  }
  std::string text = script;
  for (size_t at = 0; (at = text.find("{P}", at)) != std::string::npos;) text.replace(at, 3, session.program);
  Print(text);
  return 0;
}

}  // namespace

void AddCompletionCommands(CLI::App& app, Session& session) {
  auto* completion = app.add_subcommand("completion", "a completion script for bash, zsh or fish");
  auto shell = std::make_shared<std::string>("bash");
  completion->add_option("SHELL", *shell);
  completion->callback([=, &session] { session.action = [=, &session] { return Script(session, *shell); }; });

  auto* complete = app.add_subcommand("__complete", "")->group("");
  complete->prefix_command();
  complete->callback([=, &session, &app] {
    std::vector<std::string> words = complete->remaining();
    session.action = [&session, &app, words] { return Complete(app, session, words); };
  });
}

}  // namespace crisp::ctl
