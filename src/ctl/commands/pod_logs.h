// `logs` of a whole pod.
#pragma once

#include <optional>
#include <string>

#include "ctl/commands/commands.h"
#include "ctl/cri_log.h"

namespace crisp::ctl {

struct PodLogsOptions {
  std::string pod;  // a whole id
  LogSelection selection;
  std::optional<size_t> tail_lines;  // of each container
  bool follow = false;               // until nothing runs and the pod is not ready; containers may come and go
};

Result<int> ShowPodLogs(Session& session, const PodLogsOptions& options);

}  // namespace crisp::ctl
