// config: crispctl's own settings file.
#include <algorithm>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/settings.h"

namespace crisp::ctl {

namespace {

struct ConfigOptions {
  std::string get;
  std::vector<std::string> set;
  std::vector<std::string> words;  // KEY VALUE
  bool list = false;
};

Result<> CheckName(const std::string& name) {
  const auto& names = SettingNames();
  if (std::find(names.begin(), names.end(), name) != names.end()) return {};
  return Error(Code::kInvalidArgument, StrCat("no such setting: ", Quote(name), " (", Join(names, ", "), ")"));
}

Result<> CheckValue(const std::string& name, const std::string& value) {
  if (name == "timeout") {
    TRY(ParseDuration(value), name);
  } else if (name == "max-retries") {
    if (!ParseInt<int>(value))
      return Error(Code::kInvalidArgument, StrCat(name, " wants a number, not ", Quote(value)));
  } else if (name != "runtime-endpoint" && name != "image-endpoint" && value != "true" && value != "false") {
    return Error(Code::kInvalidArgument, StrCat(name, " wants true or false, not ", Quote(value)));
  }
  return {};
}

Result<int> ConfigCommand(Session& session, const ConfigOptions& options) {
  Settings settings = TRY(ReadSettings(session.config_path));
  if (!options.get.empty()) {
    TRY(CheckName(options.get));
    Print(settings[options.get] + "\n");
    return 0;
  }
  std::vector<std::pair<std::string, std::string>> changes;
  for (const std::string& text : options.set) {
    for (std::string_view pair : Split(text, ',')) {
      size_t equals = pair.find('=');
      if (equals == std::string_view::npos) return Error(Code::kInvalidArgument, StrCat("no key=value: ", Quote(pair)));
      changes.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
    }
  }
  if (options.words.size() == 2) changes.emplace_back(options.words[0], options.words[1]);
  if (options.words.size() == 1)
    return Error(Code::kInvalidArgument, StrCat("config: a value for ", options.words[0], " is missing"));
  for (const auto& [key, value] : changes) {
    TRY(CheckName(key));
    TRY(CheckValue(key, value));
    settings[key] = value;
  }
  if (!changes.empty()) {
    TRY(WriteSettings(session.config_path, settings));
    return 0;
  }
  for (const char* name : {"debug", "pull-image-on-create", "disable-pull-on-run"}) settings.emplace(name, "false");
  for (const char* name : {"timeout", "max-retries"}) settings.emplace(name, "0");
  Table table({"KEY", "VALUE"});
  for (const std::string& name : SettingNames()) table.Add({name, settings[name]});
  Print(table.Render(session.colours));
  return 0;
}

}  // namespace

void AddConfigCommands(CLI::App& app, Session& session) {
  auto* config = app.add_subcommand("config", "show or change crispctl's own settings");
  auto options = std::make_shared<ConfigOptions>();
  config->add_option("--get", options->get, "show one");
  config->add_option("--set", options->set, "key=value[,key=value], repeated")->allow_extra_args(false);
  config->add_flag("--list", options->list, "show all");
  config->add_option("KEY-VALUE", options->words, "KEY VALUE")->expected(0, 2);
  config->callback([=, &session] { session.action = [=, &session] { return ConfigCommand(session, *options); }; });
}

}  // namespace crisp::ctl
