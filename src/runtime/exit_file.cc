// docs/formats/exit-file.md
#include "base/strings.h"
#include "runtime/runtime.h"
#include "sys/file.h"

namespace crisp::runtime {

Result<std::optional<ContainerExit>> Runtime::ReadExit(const std::string& pod_run_dir, const ContainerId& id) {
  std::string path = StrCat(pod_run_dir, "/exits/", id.str());
  Result<std::string> text = sys::ReadFile(path, 4096);
  if (!text) {
    if (text.error().code() == Code::kNotFound) return std::optional<ContainerExit>();
    return std::move(text).error();
  }
  std::vector<std::string_view> lines = Split(*text, '\n');
  // A newer shim may append lines; the first word of the first line tells what this is.
  if (lines.empty() || !lines.front().starts_with("crisp-exit ")) {
    return Error(Code::kDataLoss, path + " is not an exit file");
  }
  ContainerExit exit;
  int fields = 0;
  for (std::string_view line : lines) {
    size_t blank = line.find(' ');
    if (blank == std::string_view::npos) continue;
    std::string_view key = line.substr(0, blank);
    std::optional<int64_t> value = ParseInt<int64_t>(line.substr(blank + 1));
    if (!value) continue;
    if (key == "code") exit.code = static_cast<int>(*value), ++fields;
    if (key == "signal") exit.signal = static_cast<int>(*value), ++fields;
    if (key == "oom_killed") exit.oom_killed = *value != 0, ++fields;
    if (key == "finished_at") exit.finished_at_unix_nanos = *value, ++fields;
  }
  if (fields < 4) return Error(Code::kDataLoss, path + " is not a whole exit file");
  return std::optional<ContainerExit>(exit);
}

}  // namespace crisp::runtime
