// From the configuration to the options of each part. Looks at the machine where a value says "find it yourself".
#pragma once

#include <string>

#include "cgroup/cgroup.h"
#include "daemon/config.h"
#include "image/service.h"
#include "network/network.h"
#include "nri/nri.h"
#include "pod/manager.h"
#include "runtime/runtime.h"
#include "stream/server.h"

namespace crisp::daemon {

image::ServiceOptions ImageOptions(const Config& config);
network::NetworkOptions NetworkOptions(const Config& config);
cgroup::Driver CgroupDriver(const Config& config);
// Tries out whether pods can have user namespaces with images below `root_dir`. Leaves nothing.
Result<> ProbeUserns(const std::string& shim_binary, const std::string& root_dir);
runtime::Runtime::Options RuntimeOptions(const Config& config, bool systemd_cgroup, runtime::Events events);
// Names of OCI handlers whose program is not on this machine: they are left out.
std::vector<std::string> MissingHandlers(const Config& config);
// The configured default handler; runc or crun where that is native, as nothing else was said, and cannot be used here.
std::string DefaultHandler(const Config& config, const runtime::Runtime::Options& options);
nri::Options NriOptions(const Config& config);
pod::ManagerOptions PodOptions(const Config& config);
stream::Server::Options StreamingOptions(const Config& config);

// For Status with verbose, under the key "config": what users of crictl and critest look for (stateDir), and the text.
std::string ConfigJson(const Config& config);

// CNI conflist of our own bridge network; its addresses are kept in <state_dir>/networks, so that they die with the
// boot.
std::string FallbackConflist(const Config& config);

}  // namespace crisp::daemon
