// help, and commands by their names.
#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/near.h"

namespace crisp::ctl {

std::vector<std::string> CommandNames(CLI::App& app) {
  std::vector<std::string> names;
  for (CLI::App* command : app.get_subcommands([](CLI::App* c) { return !c->get_group().empty(); })) {
    names.push_back(command->get_name());
    for (const std::string& alias : command->get_aliases()) names.push_back(alias);
  }
  return names;
}

Result<CLI::App*> FindCommand(CLI::App& app, const std::string& name) {
  auto found = app.get_subcommands([&](CLI::App* command) { return command->check_name(name); });
  if (!found.empty()) return found.front();
  return Error(Code::kInvalidArgument,
               StrCat("no such command: ", Quote(name), DidYouMean(NearMisses(name, CommandNames(app)))));
}

void AddHelpCommands(CLI::App& app, Session& session) {
  auto* help = app.add_subcommand("help", "what there is, or how a command is used")->alias("h");
  auto name = std::make_shared<std::string>();
  help->add_option("COMMAND", *name);
  SetAction(*help, session, [&app, name]() -> Result<int> {
    // Not app.help(): that shows the help of the command that was called, which is this one.
    CLI::App* command = name->empty() ? &app : TRY(FindCommand(app, *name));
    Print(app.get_formatter()->make_help(command, command->get_name(), CLI::AppFormatMode::Normal));
    return 0;
  });
}

}  // namespace crisp::ctl
