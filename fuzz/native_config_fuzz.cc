// config.json for the native handler: a launch whose bytes can be read back, or an error; and the process and the seccomp
// rules in it by themselves. Never a configuration with seccomp rules that makes a launch without a filter.
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "native/compile.h"

using namespace crisp;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  native::CompileInput input{.config_json = text, .id = "c", .bundle = "/bundle"};
  input.host.unified = size % 2 == 0;
  input.host.hierarchies = {{"", "/cg"}, {"cpu,cpuacct", "/cg/cpu"}, {"name=systemd", "/cg/systemd"}};
  input.cgroup = {.v1_dirs = {"/cg/cpu/c", "/cg/systemd/c"}, .v2_dir = "/cg/c"};
  Result<native::Launch> launch = native::Compile(input);
  Result<Json> json = ParseJson(text, "config.json");
  if (launch) {
    Result<std::string> bytes = native::Encode(*launch);
    if (bytes && !native::DecodeLaunch(*bytes)) std::abort();
    bool rules = json && json->contains("linux") && (*json)["linux"].contains("seccomp") && !(*json)["linux"]["seccomp"].is_null();
    if (rules && launch->process.seccomp.program.empty()) std::abort();
    if (!launch->process.args.empty() && launch->process.args[0].find('\0') != std::string::npos) std::abort();
  }
  if (!json || !json->is_object()) return 0;
  (void)native::PoststopHooks(text);
  if (json->contains("process")) (void)native::CompileExec({.process_json = DumpJson((*json)["process"])});
  return 0;
}
