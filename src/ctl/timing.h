// Where the time of a pod's start went, as crispd tells it in the verbose status of a pod (info key "timing"): read,
// and drawn as a table's rows or as a waterfall of text or SVG. Pure; any thread. Names from the runtime are shown
// without control characters, and escaped in SVG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace crisp::ctl {

struct TimedStage {
  std::string name;
  int64_t begin_us = 0, took_us = 0;  // begin: since the call's begin
};
struct TimedCall {
  std::string call, container;  // container "": the pod's own
  int64_t began_at = 0;         // unix nanoseconds
  int64_t took_us = 0;
  std::vector<TimedStage> stages;
};

// [{"call", "container", "began_at", "took_us", "stages": [{"name", "begin_us", "took_us"}]}]. kInvalidArgument:
// something else.
Result<std::vector<TimedCall>> ParseTimings(const nlohmann::json& timings);

// All calls on one scale, so that bars can be compared. Each begins at the left: what the client does between its calls
// is not the runtime's time. `columns`: of the whole line, at least 60 are used.
std::string WaterfallText(const std::vector<TimedCall>& calls, size_t columns);
// One self-contained picture; its colours follow the reader's light or dark scheme.
std::string WaterfallSvg(const std::vector<TimedCall>& calls, const std::string& title);

}  // namespace crisp::ctl
