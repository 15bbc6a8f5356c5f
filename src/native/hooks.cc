#include "native/hooks.h"

#include <cstdio>

#include "base/strings.h"
#include "sys/spawn.h"

namespace crisp::native {

namespace {

constexpr std::chrono::seconds kHookTimeMax{600};  // a hook without a time-out of its own
constexpr size_t kOutputTailBytes = 1024;

Result<> RunHook(const Ctx& ctx, const Hook& hook, const std::string& state) {
  sys::Command command;
  command.program = hook.path;
  if (!hook.args.empty()) {
    command.argv0 = hook.args.front();
    command.args.assign(hook.args.begin() + 1, hook.args.end());
  }
  command.env = hook.env;
  sys::RunOptions options;
  options.input = state;
  options.timeout = hook.timeout_seconds > 0 ? std::chrono::seconds(hook.timeout_seconds) : kHookTimeMax;
  sys::RunResult run = TRY(sys::Run(ctx, command, options));
  if (run.status.code == 0) return {};
  std::string said(Trim(run.err.empty() ? run.out : run.err));
  if (said.size() > kOutputTailBytes) said.erase(0, said.size() - kOutputTailBytes);
  return Error(Code::kUnknown, StrCat("exit status ", run.status.code, said.empty() ? "" : ": ", said));
}

}  // namespace

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}

std::string StateJson(const Launch& launch, const char* status, pid_t pid) {
  return StrCat("{\"ociVersion\":", JsonString(launch.oci_version), ",\"id\":", JsonString(launch.id), ",\"status\":\"",
                status, "\",\"pid\":", pid, ",\"bundle\":", JsonString(launch.bundle),
                launch.annotations.empty() ? "" : ",\"annotations\":", launch.annotations, "}");
}

Result<> RunHooks(const std::vector<Hook>& hooks, const char* kind, const std::string& state, const Ctx& ctx) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    TRY(RunHook(ctx, hooks[i], state), StrCat(kind, " hook #", i, " (", hooks[i].path, ")"));
  }
  return {};
}

}  // namespace crisp::native
