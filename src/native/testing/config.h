// Configurations for tests of Compile.
#pragma once

#include <string>

#include "base/json.h"
#include "native/compile.h"

namespace crisp::native {

// What Compile takes, and no more.
inline Json MinimalConfig() {
  return {{"ociVersion", "1.2.0"},
          {"root", {{"path", "rootfs"}}},
          {"process", {{"args", {"true"}}, {"cwd", "/"}}},
          {"linux", {{"namespaces", Json::array({{{"type", "mount"}}, {{"type", "pid"}}})}}}};
}

inline Json WithNamespaces(std::initializer_list<const char*> types) {
  Json config = MinimalConfig();
  for (const char* type : types) config["linux"]["namespaces"].push_back({{"type", type}});
  return config;
}

inline Result<Launch> CompileJson(const Json& config, Host host = {}, CgroupPlace cgroup = {}) {
  std::string text = DumpJson(config);
  return Compile(
      {.config_json = text, .id = "c", .bundle = "/bundle", .host = std::move(host), .cgroup = std::move(cgroup)});
}

// "INVALID_ARGUMENT: process: …"
inline std::string Refusal(const Json& config) {
  Result<Launch> launch = CompileJson(config);
  if (launch) return "accepted";
  return std::string(CodeName(launch.error().code())) + ": " + launch.error().message();
}

}  // namespace crisp::native
