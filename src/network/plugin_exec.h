// Plugins as programs: environment, stdin, exit code, and the errors they report (CNI specification, sections 2 and 5).
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/context.h"
#include "network/plugin.h"

namespace crisp::network {

struct PluginExecOptions {
  std::vector<std::string> bin_dirs;
  std::chrono::milliseconds timeout{60'000};
};

// Threading: any thread; blocks until the program ends, at most `timeout` and the context's deadline.
class PluginExec {
 public:
  explicit PluginExec(PluginExecOptions options) : options_(std::move(options)) {}

  // The program of a plugin type: kNotFound names the directories.
  Result<std::string> Find(const std::string& type) const;
  // What the program printed, for verbs that answer with JSON; "" else. An error names the plugin and the network.
  Result<std::string> Run(const Ctx& ctx, Verb verb, const PluginCall& call) const;
  Result<CniResult> Add(const Ctx& ctx, const PluginCall& call) const;
  // As Add, of an IPAM plugin that `call.plugin` names: it gets the same stdin.
  Result<CniResult> IpamAdd(const Ctx& ctx, const PluginCall& call, const std::string& ipam_type) const;
  Result<> Ipam(const Ctx& ctx, Verb verb, const PluginCall& call, const std::string& ipam_type) const;

 private:
  Result<std::string> RunType(const Ctx& ctx, Verb verb, const PluginCall& call, const std::string& type) const;
  const PluginExecOptions options_;
};

// The error that a plugin printed ({"code":…,"msg":…,"details":…}), or, if it printed none, its exit status and the
// beginning of what it wrote.
Error DecodePluginError(std::string_view out, std::string_view err, int exit_code);

}  // namespace crisp::network
