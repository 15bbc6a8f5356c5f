#include "ctl/history.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

constexpr JsonLimits kLimits{.bytes_max = 16u << 20, .depth_max = 128};

// Dockerfiles' steps come as the shell command that ran.
std::string Readable(std::string by) {
  constexpr std::string_view kShell = "/bin/sh -c ", kNothing = "#(nop) ";
  if (by.starts_with(kShell))
    by = by.substr(kShell.size()).starts_with(kNothing) ? by.substr(kShell.size() + kNothing.size())
                                                        : StrCat("RUN ", by.substr(kShell.size()));
  return std::string(Trim(by));
}

Result<HistoryStep> ParseStep(const Json& entry) {
  if (!entry.is_object()) return Error(Code::kInvalidArgument, "a step of the history is no object");
  HistoryStep step;
  step.created_by = Readable(TRY(JsonGet<std::string>(entry, "created_by")));
  step.comment = TRY(JsonGet<std::string>(entry, "comment"));
  step.author = TRY(JsonGet<std::string>(entry, "author"));
  auto created = ParseRfc3339(TRY(JsonGet<std::string>(entry, "created")));
  if (created) step.created_unix_nanos = *created;
  return step;
}

}  // namespace

Result<std::vector<HistoryStep>> HistoryOf(const std::map<std::string, std::string>& info) {
  auto text = info.find("info");
  Json document;
  if (text != info.end()) document = TRY(ParseJson(text->second, "info of the image", kLimits));
  auto spec = document.is_object() ? document.find("imageSpec") : document.end();
  if (!document.is_object() || spec == document.end() || !spec->is_object()) {
    return Error(Code::kUnimplemented, "the runtime does not tell how images were built");
  }
  auto history = spec->find("history");
  if (history == spec->end() || !history->is_array() || history->empty()) {
    return Error(Code::kNotFound, "the image has no history: who built it wrote none");
  }
  std::vector<std::string> layers;
  if (auto rootfs = spec->find("rootfs"); rootfs != spec->end() && rootfs->is_object()) {
    layers = TRY(JsonGet<std::vector<std::string>>(*rootfs, "diff_ids"));
  }
  std::vector<HistoryStep> steps;
  size_t layer = 0;
  for (const Json& entry : *history) {
    HistoryStep step = TRY(ParseStep(entry));
    bool empty = TRY(JsonGet<bool>(entry, "empty_layer"));
    if (!empty && layer < layers.size()) step.diff_id = layers[layer++];
    steps.push_back(std::move(step));
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

Json HistoryJson(const std::vector<HistoryStep>& steps) {
  Json list = Json::array();
  for (const HistoryStep& step : steps) {
    Json entry = {{"createdBy", step.created_by}, {"layer", step.diff_id}};
    if (step.created_unix_nanos != 0) entry["created"] = FormatRfc3339Nano(step.created_unix_nanos);
    if (!step.comment.empty()) entry["comment"] = step.comment;
    if (!step.author.empty()) entry["author"] = step.author;
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace crisp::ctl
