// launchbench: how long the native launcher takes from a Launch to a running program, without crispd, shim and CRI.
//
//   launchbench --config CONFIG.JSON --rootfs DIR [--lives N] [--cgroup DIR]…
// Prints JSON: microseconds, p50 and p99. The configuration's bind mounts and joined namespaces are left out.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/json.h"
#include "native/compile.h"
#include "native/launcher.h"
#include "sys/file.h"

using namespace crisp;

namespace {

Result<std::string> MakeLaunch(const std::string& config_file, const std::string& rootfs, std::vector<std::string> cgroups) {
  Json config = TRY(ParseJson(TRY(sys::ReadFile(config_file)), "config"));
  if (config.contains("config.json")) config = Json(config["config.json"]);
  config["root"]["path"] = rootfs;
  config["process"]["args"] = {"/bin/true"};
  Json mounts = Json::array();
  for (const Json& mount : config["mounts"]) {
    if (mount.value("type", "") != "bind") mounts.push_back(mount);
  }
  config["mounts"] = mounts;
  for (Json& ns : config["linux"]["namespaces"]) ns.erase("path");
  std::string text = DumpJson(config);
  native::CompileInput input;
  input.config_json = text;
  input.id = "bench";
  input.bundle = "/";
  input.cgroup.v1_dirs = std::move(cgroups);
  return native::Encode(TRY(native::Compile(input)));
}

Result<double> Once(const std::string& launch, int null) {
  auto begin = std::chrono::steady_clock::now();
  native::Launching launching = TRY(native::Launching::Start(launch, {.in = null, .out = null, .err = null}));
  while (true) {
    pollfd event{launching.fd().get(), POLLIN, 0};
    poll(&event, 1, -1);
    if (TRY(launching.Advance()) == native::Launching::Progress::kRunning) break;
  }
  double took = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  waitpid(launching.pid(), nullptr, 0);
  return took;
}

Result<> Main(int argc, char** argv) {
  std::string config, rootfs;
  std::vector<std::string> cgroups;
  int lives = 100;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string key = argv[i], value = argv[i + 1];
    if (key == "--config") config = value;
    if (key == "--rootfs") rootfs = value;
    if (key == "--cgroup") cgroups.push_back(value);
    if (key == "--lives") lives = std::atoi(value.c_str());
  }
  std::string launch = TRY(MakeLaunch(config, rootfs, cgroups));
  int null = open("/dev/null", O_RDWR);
  std::vector<double> times;
  for (int i = 0; i < lives; ++i) times.push_back(TRY(Once(launch, null)));
  std::sort(times.begin(), times.end());
  std::printf("{\"launch_bytes\":%zu,\"n\":%zu,\"min\":%.0f,\"p50\":%.0f,\"p99\":%.0f}\n", launch.size(), times.size(), times.front(),
              times[times.size() / 2], times[times.size() * 99 / 100]);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Result<> done = Main(argc, argv);
  if (done) return 0;
  std::fprintf(stderr, "launchbench: %s\n", done.error().message().c_str());
  return 1;
}
