#include "stream/status.h"

#include "base/json.h"
#include "base/strings.h"

namespace crisp::stream {
namespace {

constexpr size_t kResizeBytesMax = 4096;
constexpr int kStatusVersion = 4;  // the first protocol with a Status on the error channel

std::string Message(const Result<int>& outcome) {
  if (!outcome) return outcome.error().message();
  return StrCat("command terminated with non-zero exit code: exit status ", *outcome);
}

std::optional<TerminalSize> ParseSize(std::string_view text) {
  Result<Json> json = ParseJson(text, "terminal size", {.bytes_max = kResizeBytesMax, .depth_max = 4});
  if (!json || !json->is_object()) return std::nullopt;
  Result<int64_t> width = JsonGet<int64_t>(*json, "Width"), height = JsonGet<int64_t>(*json, "Height");
  auto fits = [](const Result<int64_t>& value) { return value && *value > 0 && *value <= UINT16_MAX; };
  if (!fits(width) || !fits(height)) return std::nullopt;
  return TerminalSize{static_cast<uint16_t>(*width), static_cast<uint16_t>(*height)};
}

}  // namespace

std::string StatusText(const Result<int>& outcome, int protocol_version) {
  bool success = outcome && *outcome == 0;
  if (protocol_version < kStatusVersion) return success ? "" : Message(outcome);
  Json status = {{"metadata", Json::object()}, {"status", success ? "Success" : "Failure"}};
  if (!success) {
    status["message"] = Message(outcome);
    if (outcome) {
      status["reason"] = "NonZeroExitCode";
      Json cause = {{"reason", "ExitCode"}, {"message", StrCat(*outcome)}};
      status["details"] = {{"causes", Json::array({std::move(cause)})}};
    } else {
      status["reason"] = "InternalError";
      status["code"] = 500;
    }
  }
  return DumpJson(status);
}

std::optional<TerminalSize> TakeTerminalSize(std::string& text) {
  std::optional<TerminalSize> last;
  size_t end = text.rfind('}');
  if (end != std::string::npos) {
    size_t begin = text.rfind('{', end);
    if (begin != std::string::npos) last = ParseSize(std::string_view(text).substr(begin, end + 1 - begin));
    text.erase(0, end + 1);
  }
  if (text.size() > kResizeBytesMax) text.clear();
  return last;
}

}  // namespace crisp::stream
