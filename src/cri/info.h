// The verbose parts of statuses: `info` maps whose values are JSON texts, under the keys that users of crictl know from
// other runtimes ("info": pid, sandboxID, config, runtimeSpec, …).
// Threading: any thread. Reads the bundle's config.json, so never on gRPC's own thread.
#pragma once

#include <map>
#include <string>

#include "image/types.h"
#include "pod/manager.h"

namespace crisp::cri {

using Info = std::map<std::string, std::string>;

Info SandboxInfo(const pod::SandboxStatus& sandbox);
// "timing": {"calls": [{"call", "container", "began_at", "took_us", "stages": [{"name", "begin_us", "took_us"}]}]}.
Info TimingInfo(const std::vector<pod::CallTiming>& timings);
Info ContainerInfo(const pod::ContainerStatus& container);
Info ImageInfo(const image::Image& image);

}  // namespace crisp::cri
