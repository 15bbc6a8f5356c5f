#include "network/plugin_exec.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/strings.h"
#include "sys/spawn.h"

extern char** environ;

namespace crisp::network {

namespace {

constexpr size_t kOutputBytesMax = 4u << 20;

Code CodeOfPlugin(int64_t code) {
  switch (code) {
    case 1: return Code::kFailedPrecondition;   // incompatible CNI version
    case 2: return Code::kUnimplemented;        // unsupported field
    case 3: return Code::kNotFound;             // container unknown
    case 4: case 7: return Code::kInvalidArgument;
    case 11: case 50: case 51: return Code::kUnavailable;  // try again later; not available; limited connectivity
    default: return Code::kInternal;
  }
}

// Our environment without what is meant for us alone, and the CNI variables.
std::vector<std::string> Environment(Verb verb, const PluginCall& call, const std::string& path) {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view variable = *entry;
    if (variable.starts_with("CNI_") || variable.starts_with("LISTEN_") || variable.starts_with("NOTIFY_SOCKET=") ||
        variable.starts_with("WATCHDOG_") || variable.starts_with("CRISP_FAILPOINTS")) {
      continue;
    }
    env.emplace_back(variable);
  }
  if (std::getenv("PATH") == nullptr) env.emplace_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
  env.push_back(StrCat("CNI_COMMAND=", VerbName(verb)));
  env.push_back("CNI_PATH=" + path);
  if (call.attachment != nullptr) {
    env.push_back("CNI_CONTAINERID=" + call.attachment->container_id);
    env.push_back("CNI_NETNS=" + call.attachment->netns);
    env.push_back("CNI_IFNAME=" + call.attachment->ifname);
    env.push_back("CNI_ARGS=" + call.attachment->args);
  }
  return env;
}

}  // namespace

Error DecodePluginError(std::string_view out, std::string_view err, int exit_code) {
  Result<Json> json = ParseJson(Trim(out), "plugin's error");
  if (json && json->is_object()) {
    Result<int64_t> code = JsonGet<int64_t>(*json, "code");
    Result<std::string> msg = JsonGet<std::string>(*json, "msg");
    Result<std::string> details = JsonGet<std::string>(*json, "details");
    if (code && msg && details && (*code != 0 || !msg->empty())) {
      std::string text = StrCat(*msg, details->empty() ? "" : "; ", *details, " (code ", *code, ")");
      if (text.size() > 2048) text = text.substr(0, 2048) + "…";
      return Error(CodeOfPlugin(*code), std::move(text));
    }
  }
  std::string_view said = Trim(out).empty() ? Trim(err) : Trim(out);
  std::string text = StrCat("exit code ", exit_code);
  if (!said.empty()) text += StrCat(", it printed ", Quote(said));
  return Error(Code::kInternal, std::move(text));
}

Result<std::string> PluginExec::Find(const std::string& type) const {
  for (const std::string& dir : options_.bin_dirs) {
    std::string path = StrCat(dir, "/", type);
    struct stat status {};
    if (stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0) return path;
  }
  return Error(Code::kNotFound, StrCat("no program ", Quote(type), " in ", Join(options_.bin_dirs, ", ")));
}

Result<std::string> PluginExec::RunType(const Ctx& ctx, Verb verb, const PluginCall& call, const std::string& type) const {
  std::string program = TRY(Find(type));
  sys::Command command{.program = program, .env = Environment(verb, call, Join(options_.bin_dirs, ":"))};
  sys::RunOptions run{.input = verb == Verb::kVersion ? "" : DumpJson(TRY(PluginStdin(call))),
                      .output_bytes_max = kOutputBytesMax,
                      .timeout = options_.timeout};
  Result<sys::RunResult> ran = sys::Run(ctx, command, run);
  if (!ran && ran.error().code() == Code::kDeadlineExceeded) {
    return Error(Code::kDeadlineExceeded, "it did not finish in time and was killed");
  }
  TRY(ctx.Check());
  sys::RunResult result = TRY(std::move(ran));
  if (result.status.code != 0) return DecodePluginError(result.out, result.err, result.status.code);
  return std::move(result.out);
}

Result<std::string> PluginExec::Run(const Ctx& ctx, Verb verb, const PluginCall& call) const {
  return TRY(RunType(ctx, verb, call, call.plugin.type), StrCat(PluginText(call), ": ", VerbName(verb)));
}

Result<CniResult> PluginExec::Add(const Ctx& ctx, const PluginCall& call) const {
  std::string out = TRY(Run(ctx, Verb::kAdd, call));
  Json json = TRY(ParseJson(Trim(out), "result", {.bytes_max = kOutputBytesMax, .depth_max = 32}), PluginText(call) + ": ADD");
  return TRY(ParseCniResult(json), PluginText(call) + ": ADD");
}

Result<CniResult> PluginExec::IpamAdd(const Ctx& ctx, const PluginCall& call, const std::string& ipam_type) const {
  std::string what = StrCat(PluginText(call), ": address plugin ", Quote(ipam_type), ": ADD");
  std::string out = TRY(RunType(ctx, Verb::kAdd, call, ipam_type), what);
  Json json = TRY(ParseJson(Trim(out), "result", {.bytes_max = kOutputBytesMax, .depth_max = 32}), what);
  return TRY(ParseCniResult(json), what);
}

Result<> PluginExec::Ipam(const Ctx& ctx, Verb verb, const PluginCall& call, const std::string& ipam_type) const {
  std::string what = StrCat(PluginText(call), ": address plugin ", Quote(ipam_type), ": ", VerbName(verb));
  TRY(RunType(ctx, verb, call, ipam_type), what);
  return {};
}

}  // namespace crisp::network
