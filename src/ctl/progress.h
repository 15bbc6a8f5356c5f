// The lines that a pull shows while it runs. Pure.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "crisp/v1/crisp.pb.h"

namespace crisp::ctl {

// One line per layer and a sum, each at most `width` columns:
//   a1b2c3d4e5f60   [=========>          ]   12.3MB / 45.6MB
std::vector<std::string> ProgressLines(const ::crisp::v1::PullUpdate& update, std::chrono::milliseconds elapsed,
                                       size_t width);

}  // namespace crisp::ctl
