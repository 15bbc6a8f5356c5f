// What a run is told, as a value: parsed from the command line by main, handed as JSON to the process of each spec.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace crisp::conformance {

struct Context {
  std::string runtime_endpoint = "unix:///run/crisp/crisp.sock";
  std::string image_endpoint;
  std::string runtime_handler;
  std::string nri_socket;
  std::string registry_host;                   // the suite's own, "127.0.0.1:PORT"
  std::string registry_prefix;                 // in front of upstream images that the images file names
  std::map<std::string, std::string> images;   // our name of an image → a reference that the user wants instead
  std::map<std::string, std::string> digests;  // our name of an image → digest of its manifest
  std::string cgroup_parent;                   // "": by the runtime's cgroup driver
  std::string restart_command;                 // restarts the daemon under test; "": that spec is skipped
  std::string cdi_dir = "/etc/cdi";
  std::string fault;  // injected by a proxy between specs and runtime (fault.h)
  std::string transport = "spdy";
  std::string work_dir = "/var/tmp";
  int64_t runtime_timeout_ms = 300'000, image_timeout_ms = 300'000;
  int64_t patience_ms = 30'000;  // how long a spec waits for what must happen "soon"

  Json ToJson() const;
  static Context FromJson(const Json& json);
};

}  // namespace crisp::conformance
