#include "runtime/oci_handler.h"

#include <algorithm>
#include <cstdlib>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::runtime {

std::vector<std::string> OciHandler::Global(const std::string& log_file) const {
  std::vector<std::string> argv{config_.binary, "--root", config_.root_dir};
  if (config_.systemd_cgroup) argv.push_back("--systemd-cgroup");
  argv.insert(argv.end(), config_.extra_args.begin(), config_.extra_args.end());
  if (!log_file.empty()) argv.insert(argv.end(), {"--log", log_file, "--log-format", "json"});
  return argv;
}

std::vector<std::string> OciHandler::RunArgv(const ContainerId& id, const RunFiles& files) const {
  std::vector<std::string> argv = Global(files.log_file);
  if (files.restore_images.empty()) {
    argv.push_back("run");
  } else {
    argv.insert(argv.end(),
                {"restore", "--image-path", files.restore_images, "--work-path", files.bundle, "--file-locks"});
  }
  argv.insert(argv.end(), {"--detach", "--bundle", files.bundle, "--pid-file", files.pid_file});
  if (!files.console_socket.empty()) argv.insert(argv.end(), {"--console-socket", files.console_socket});
  argv.push_back(id.str());
  return argv;
}

std::vector<std::string> OciHandler::ExecArgv(const ContainerId& id, const ExecFiles& files) const {
  std::vector<std::string> argv = Global(files.log_file);
  argv.insert(argv.end(), {"exec", "--detach", "--process", files.process_file, "--pid-file", files.pid_file});
  if (!files.cgroup.empty()) argv.insert(argv.end(), {"--cgroup", files.cgroup});
  if (!files.console_socket.empty()) argv.insert(argv.end(), {"--console-socket", files.console_socket});
  argv.push_back(id.str());
  return argv;
}

std::vector<std::string> OciHandler::VerbArgv(const std::string& verb, const ContainerId& id,
                                              const std::vector<std::string>& options) const {
  std::vector<std::string> argv = Global("");
  argv.push_back(verb);
  argv.insert(argv.end(), options.begin(), options.end());
  argv.push_back(id.str());
  return argv;
}

std::vector<std::string> OciHandler::CheckpointArgv(const ContainerId& id, const CheckpointDirs& dirs) const {
  return VerbArgv("checkpoint", id,
                  {"--image-path", dirs.images, "--work-path", dirs.work, "--leave-running", "--file-locks"});
}

std::vector<std::string> OciHandler::DeleteArgv(const ContainerId& id, Deletion deletion) const {
  std::vector<std::string> argv = Global("");
  argv.push_back("delete");
  if (deletion == Deletion::kForced) argv.push_back("--force");
  argv.push_back(id.str());
  return argv;
}

std::vector<std::string> OciHandler::StateArgv(const ContainerId& id) const {
  std::vector<std::string> argv = Global("");
  argv.insert(argv.end(), {"state", id.str()});
  return argv;
}

std::vector<std::string> OciHandler::UpdateArgv(const ContainerId& id) const {
  // runc alone knows "-" for stdin; /dev/stdin works with every runtime.
  std::vector<std::string> argv = Global("");
  argv.insert(argv.end(), {"update", "--resources", "/dev/stdin", id.str()});
  return argv;
}

std::vector<std::string> RuntimeEnvironment() {
  const char* path = getenv("PATH");
  return {StrCat("PATH=", path != nullptr ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")};
}

sys::Command ToCommand(std::vector<std::string> argv) {
  sys::Command command;
  command.program = std::move(argv.front());
  command.args.assign(std::make_move_iterator(argv.begin() + 1), std::make_move_iterator(argv.end()));
  command.env = RuntimeEnvironment();
  command.working_dir = "/";
  return command;
}

HandlerAbilities OciHandler::Probe(const Ctx& ctx) const {
  HandlerAbilities abilities;
  sys::RunOptions options;
  options.timeout = std::chrono::seconds(5);
  // "features" came with runc 1.1 and crun 1.9. A runtime without it prints an error: the defaults hold then.
  Result<sys::RunResult> features = sys::Run(ctx, ToCommand({config_.binary, "features"}), options);
  if (features && features->status.code == 0) {
    abilities.features = ParseFeatures(features->out);
  } else if (Result<sys::RunResult> version = sys::Run(ctx, ToCommand({config_.binary, "--version"}), options)) {
    abilities.features = FeaturesOfVersion(version->out);
  }
  Result<sys::RunResult> help = sys::Run(ctx, ToCommand({config_.binary, "exec", "--help"}), options);
  if (help) {
    std::string text = help->out + help->err;
    if (text.find("--cgroup") != std::string::npos) {
      abilities.exec_cgroup = text.find("<controller>:") != std::string::npos ? ExecCgroupSupport::kPerController
                                                                             : ExecCgroupSupport::kWhole;
    }
  }
  return abilities;
}

HandlerFeatures ParseFeatures(std::string_view text) {
  HandlerFeatures features;
  Result<Json> json = ParseJson(text, "runtime features");
  if (!json || !json->is_object()) return features;
  auto contains = [](const Result<std::vector<std::string>>& list, const char* word) {
    return list && std::find(list->begin(), list->end(), word) != list->end();
  };
  features.recursive_read_only_mounts = contains(JsonGet<std::vector<std::string>>(*json, "mountOptions"), "rro");
  if (auto linux_features = json->find("linux"); linux_features != json->end() && linux_features->is_object()) {
    features.user_namespaces = contains(JsonGet<std::vector<std::string>>(*linux_features, "namespaces"), "user");
  }
  return features;
}

HandlerFeatures FeaturesOfVersion(std::string_view version) {
  std::vector<std::string_view> words = SplitWords(version.substr(0, version.find('\n')));
  if (words.size() < 3 || words[0] != "crun" || words[1] != "version") return {};
  std::vector<std::string_view> numbers = Split(words[2], '.');
  if (numbers.size() < 2 || numbers[0] != "1" || ParseInt<int>(numbers[1]).value_or(0) < 8) return {};
  return {.recursive_read_only_mounts = true, .user_namespaces = true};
}

std::string LastErrorOfLog(std::string_view log) {
  std::string last;
  for (std::string_view line : Split(log, '\n')) {
    if (Trim(line).empty()) continue;
    Result<Json> record = ParseJson(line, "runtime log");
    if (!record || !record->is_object()) continue;
    Result<std::string> level = JsonGet<std::string>(*record, "level");
    Result<std::string> message = JsonGet<std::string>(*record, "msg");
    if (level && message && (*level == "error" || *level == "fatal") && !message->empty()) last = *message;
  }
  return last;
}

bool SaysNotThere(std::string_view output) {
  // runc: "container does not exist"; crun: "error opening file `…/status`: No such file or directory".
  return output.find("does not exist") != std::string_view::npos ||
         output.find("/status`: No such file or directory") != std::string_view::npos;
}

}  // namespace crisp::runtime
