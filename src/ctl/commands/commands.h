// What all commands share. Each file of this folder adds its commands to the App; a command's callback puts what is to
// be done into Session::action, and main() does it once the whole line has been understood.
// CLI11 is included only here, in the commands and in main.cc: it is a second of compile time each.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/strings.h"
#include "ctl/client.h"
#include "ctl/go_template.h"
#include "ctl/message.h"
#include "ctl/select.h"
#include "ctl/table.h"

namespace crisp::ctl {

struct Session {
  // The exit code; an error is printed and gives 1.
  std::function<Result<int>()> action;
  std::unique_ptr<Client> client;  // set before `action` runs
  Colours colours = Colours::kOff;
  std::string config_path;                    // crispctl.yaml
  std::string program = "crispctl", command;  // as it was called: crictl, ps
  std::string hinted;                         // what the user was told to do already
  std::chrono::nanoseconds timeout{};
  bool terminal = false;  // stdout is one
  // Of the settings file; flags of a command win.
  bool pull_on_create = false, no_pull_on_run = false;
};

void AddHelpCommands(CLI::App& app, Session& session);        // help
void AddSystemCommands(CLI::App& app, Session& session);      // version, info, runtime-config, …
void AddConfigCommands(CLI::App& app, Session& session);      // config
void AddPodCommands(CLI::App& app, Session& session);         // runp, stopp, rmp
void AddContainerCommands(CLI::App& app, Session& session);   // create, start, run, stop, rm
void AddStreamCommands(CLI::App& app, Session& session);      // exec, attach, port-forward
void AddCheckpointCommands(CLI::App& app, Session& session);  // checkpoint, checkpointp, restorep
void AddUpdateCommands(CLI::App& app, Session& session);      // update, updatep
void AddListCommands(CLI::App& app, Session& session);        // pods, ps, inspectp, inspect
void AddTreeCommands(CLI::App& app, Session& session);        // tree
void AddTraceCommands(CLI::App& app, Session& session);       // trace
void AddEventCommands(CLI::App& app, Session& session);       // events
void AddDoctorCommands(CLI::App& app, Session& session);      // doctor
void AddLogCommands(CLI::App& app, Session& session);         // logs
void AddImageCommands(CLI::App& app, Session& session);       // images, inspecti, rmi, imagefsinfo, image import/export
void AddPullCommands(CLI::App& app, Session& session);        // pull
void AddTopCommands(CLI::App& app, Session& session);         // top
void AddDiskCommands(CLI::App& app, Session& session);        // df
void AddHistoryCommands(CLI::App& app, CLI::App& images, Session& session);  // history, image history
void AddManCommands(CLI::App& app, Session& session);                        // man
void AddStatsCommands(CLI::App& app, Session& session);                      // stats, statsp, metricsp, metricdescs
void AddCompletionCommands(CLI::App& app, Session& session);                 // completion

// kInvalidArgument: no such command; names that are like it are told.
Result<CLI::App*> FindCommand(CLI::App& app, const std::string& name);
std::vector<std::string> CommandNames(CLI::App& app);  // aliases too

// What the command does, unless a sub-command of it was called.
void SetAction(CLI::App& command, Session& session, std::function<Result<int>()> action);

// Gives a command that reads files of pods or containers the sub-command jsonschema (js).
enum class SchemaKind { kPod, kChosen };  // kChosen: --pod or --container says which
void AddSchema(CLI::App& command, Session& session, SchemaKind kind);

// "key=value" into `map`; `option` is named where there is no '='.
template <class Map>
Result<> AddPairs(const std::vector<std::string>& pairs, const char* option, Map& map) {
  for (const std::string& pair : pairs) {
    size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      return Error(Code::kInvalidArgument, StrCat(option, " wants key=value, not ", Quote(pair)));
    }
    map[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return {};
}

// Where the time of a pod's start went, as a table (inspectp --timing). kUnimplemented: the runtime does not tell.
Result<> PrintTimings(Session& session, const std::string& pod);
// Prints with `print` now and at each event of the runtime, until it ends or fails; a terminal is wiped before.
Result<int> Watch(Session& session, const std::function<Result<int>()>& print);

// To stdout, whole.
void Print(std::string_view text);

// How documents are printed.
struct Output {
  OutputFormat format = OutputFormat::kTable;
  std::shared_ptr<const GoTemplate> go_template;  // of kGoTemplate
  bool IsTable() const { return format == OutputFormat::kTable; }
  // Where there is no table: YAML, for people.
  Output OrYaml() const { return IsTable() ? Output{.format = OutputFormat::kYaml, .go_template = nullptr} : *this; }
};

// Options of several commands.
struct OutputOption {
  std::string text, go_template;
  // kInvalidArgument names the forms, or says what is wrong with the template.
  Result<Output> Get() const;
};
// -o/--output json|yaml|go-template|table, --template; `fallback` when -o is not given.
void AddOutput(CLI::App& command, OutputOption& output, const char* fallback);
Result<> PrintDocument(const nlohmann::json& document, const Output& output);
Result<> PrintMessage(const google::protobuf::Message& message, const Output& output);
// One document as it is, several as a list, as crictl does.
Result<> PrintStatuses(std::vector<nlohmann::json> statuses, const Output& output);

// kNotFound: no such image; names that are like it are told.
Result<cri::ImageStatusResponse> ImageStatusOf(Session& session, const std::string& name, bool verbose);

struct AuthOptions {
  std::string creds;     // USER[:PASSWORD]
  std::string auth;      // base64
  std::string username;  // its password is asked from the terminal or read from stdin
};
void AddAuth(CLI::App& command, AuthOptions& auth);
Result<cri::AuthConfig> ToAuth(const AuthOptions& options);

// Does `one` for each; prints each error and goes on. 1 when there was one.
int ForEach(Session& session, const std::vector<std::string>& items,
            const std::function<Result<>(const std::string&)>& one);
// The error, and in a line of its own what to do about it, once.
void PrintError(Session& session, const Error& error);

// Waits; true when there is something to read from `fd` (-1: nothing wakes us).
bool Pause(double seconds, int fd);

// Pulls with a progress bar where there is a terminal and the runtime tells, without it otherwise. Returns the image's
// ref.
Result<std::string> PullImage(Session& session, const cri::ImageSpec& image, const cri::AuthConfig& auth,
                              std::chrono::nanoseconds timeout, const cri::PodSandboxConfig* pod);
// Pulls only what is not there.
Result<> EnsureImage(Session& session, const cri::ImageSpec& image, const cri::AuthConfig& auth,
                     std::chrono::nanoseconds timeout, const cri::PodSandboxConfig* pod);

inline constexpr std::chrono::minutes kPodTimeout{4};  // as long as a kubelet waits for a pod

}  // namespace crisp::ctl
