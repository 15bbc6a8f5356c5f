// The commands: each takes the session and its part of the command line, and gives the program's exit code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ocicli/flags.h"
#include "ocicli/session.h"

namespace crisp::ocicli {

struct Command {
  const char* name;
  const char* usage;  // what stands behind the flags
  const char* help;
  size_t words_min, words_max;
  std::vector<FlagSpec> flags;
  std::function<Result<int>(Session&, const Flags&)> run;
};

// Each file's own: lifecycle.cc, exec.cc, query.cc, update.cc, events.cc, checkpoint.cc, features.cc.
std::vector<Command> LifecycleCommands();
std::vector<Command> ExecCommands();
std::vector<Command> QueryCommands();
std::vector<Command> UpdateCommands();
std::vector<Command> EventsCommands();
std::vector<Command> CheckpointCommands();
std::vector<Command> FeatureCommands();

// ---- pure parts, for tests ----

// "9", "KILL", "SIGKILL", "RTMIN+1". kInvalidArgument.
Result<int> ParseSignal(const std::string& text);
// "1024", "10k", "100MB", "-1": whole numbers, in powers of 1024.
Result<int64_t> ParseBytes(const std::string& text);
// linux.resources of the flags of `update`.
Result<std::string> ResourcesOfFlags(const Flags& flags);
// The process object of an exec: `config_json`'s with what the flags say.
Result<std::string> ProcessOfFlags(const std::string& config_json, const Flags& flags);
// --flags of exec and update.
const std::vector<FlagSpec>& ExecFlags();
const std::vector<FlagSpec>& UpdateFlags();
std::string FeaturesJson();
std::string SpecJson();

}  // namespace crisp::ocicli
