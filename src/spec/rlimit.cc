#include "spec/rlimit.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "base/strings.h"

namespace crisp::spec {
namespace {

constexpr std::array<std::string_view, 16> kNames = {"as",      "core",     "cpu",        "data",   "fsize", "locks",
                                                     "memlock", "msgqueue", "nice",       "nofile", "nproc", "rss",
                                                     "rtprio",  "rttime",   "sigpending", "stack"};

Result<uint64_t> ParseLimit(std::string_view number) {
  if (number == "-1") return ~uint64_t{0};  // RLIM_INFINITY
  uint64_t value = 0;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) {
    return Error(Code::kInvalidArgument, StrCat("not a limit: ", Quote(number)));
  }
  return value;
}

}  // namespace

Result<Rlimit> ParseRlimit(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return Error(Code::kInvalidArgument, StrCat(Quote(text), " is not NAME=SOFT:HARD"));
  }
  std::string_view name = text.substr(0, equals), soft = text.substr(equals + 1), hard = soft;
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    return Error(Code::kInvalidArgument, StrCat("no such limit: ", Quote(name)));
  }
  if (size_t colon = soft.find(':'); colon != std::string_view::npos) {
    hard = soft.substr(colon + 1);
    soft = soft.substr(0, colon);
  }
  Rlimit limit{.type = StrCat("RLIMIT_", name)};
  for (char& c : limit.type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  limit.soft = TRY(ParseLimit(soft));
  limit.hard = TRY(ParseLimit(hard));
  if (limit.soft > limit.hard) return Error(Code::kInvalidArgument, StrCat(Quote(text), ": soft is above hard"));
  return limit;
}

}  // namespace crisp::spec
