// How an image was built, as its config tells and a runtime hands on in the verbose status of the image. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace crisp::ctl {

struct HistoryStep {
  int64_t created_unix_nanos = 0;  // 0: not told
  std::string created_by, comment, author;
  std::string diff_id;  // "": the step made no layer
};

// Newest first. `info` is that of ImageStatus: "info" holds {"imageSpec": {"history": […], "rootfs": {"diff_ids":
// […]}}}. kUnimplemented: the runtime tells no history. kNotFound: the image has none.
Result<std::vector<HistoryStep>> HistoryOf(const std::map<std::string, std::string>& info);
// As `-o json` shows it.
nlohmann::json HistoryJson(const std::vector<HistoryStep>& steps);

}  // namespace crisp::ctl
