#include "ctl/format.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <optional>

#include "base/strings.h"

namespace crisp::ctl {

namespace {

using std::chrono::nanoseconds;

Error BadDuration(std::string_view text) {
  return Error(Code::kInvalidArgument, StrCat("no duration: ", Quote(text), " (like 90s, 5m, 1h30m)"));
}

struct Unit {
  std::string_view name;
  double nanos;
};
// Longer names first where one begins with another.
constexpr std::array<Unit, 9> kUnits = {{{"ns", 1},
                                         {"us", 1e3},
                                         {"\u00b5s", 1e3},
                                         {"ms", 1e6},
                                         {"s", 1e9},
                                         {"m", 60e9},
                                         {"h", 3600e9},
                                         {"d", 86400e9},
                                         {"w", 7 * 86400e9}}};

const Unit* FindUnit(std::string_view name) {
  for (const Unit& unit : kUnits) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

bool IsNumberChar(char c) { return (c >= '0' && c <= '9') || c == '.'; }

// "12", "1.5"; no sign, no exponent.
std::optional<double> ParseDecimal(std::string_view text) {
  if (text.empty() || text == ".") return std::nullopt;
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Takes `digits` decimal digits off the front.
std::optional<int> TakeDigits(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  auto value = ParseInt<unsigned>(text.substr(0, digits));
  if (!value) return std::nullopt;
  text.remove_prefix(digits);
  return static_cast<int>(*value);
}

bool TakeChar(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// ".123456789" → nanoseconds; digits past the ninth do not count.
std::optional<int64_t> TakeFraction(std::string_view& text) {
  if (text.empty() || text.front() != '.') return 0;
  text.remove_prefix(1);
  int64_t nanos = 0;
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
    if (digits < 9) nanos = nanos * 10 + (text[digits] - '0');
    ++digits;
  }
  if (digits == 0) return std::nullopt;
  for (size_t i = digits; i < 9; ++i) nanos *= 10;
  text.remove_prefix(digits);
  return nanos;
}

// "Z", "+01:00" → seconds east of UTC.
std::optional<int> TakeZone(std::string_view& text) {
  if (TakeChar(text, "Zz")) return 0;
  if (text.empty() || (text.front() != '+' && text.front() != '-')) return std::nullopt;
  int sign = text.front() == '-' ? -1 : 1;
  text.remove_prefix(1);
  auto hours = TakeDigits(text, 2);
  if (!hours || !TakeChar(text, ":")) return std::nullopt;
  auto minutes = TakeDigits(text, 2);
  if (!minutes) return std::nullopt;
  return sign * (*hours * 3600 + *minutes * 60);
}

std::optional<int64_t> ParseRfc3339Maybe(std::string_view text) {
  std::tm tm{};
  auto year = TakeDigits(text, 4);
  if (!year || !TakeChar(text, "-")) return std::nullopt;
  auto month = TakeDigits(text, 2);
  if (!month || !TakeChar(text, "-")) return std::nullopt;
  auto day = TakeDigits(text, 2);
  if (!day || !TakeChar(text, "Tt ")) return std::nullopt;
  auto hour = TakeDigits(text, 2);
  if (!hour || !TakeChar(text, ":")) return std::nullopt;
  auto minute = TakeDigits(text, 2);
  if (!minute || !TakeChar(text, ":")) return std::nullopt;
  auto second = TakeDigits(text, 2);
  auto fraction = second ? TakeFraction(text) : std::nullopt;
  auto zone = fraction ? TakeZone(text) : std::nullopt;
  if (!zone || !text.empty()) return std::nullopt;
  if (*year < 1970 || *year > 2261 || *month < 1 || *month > 12 || *day < 1 || *day > 31 || *hour > 23 ||
      *minute > 59 || *second > 60) {
    return std::nullopt;
  }
  tm.tm_year = *year - 1900;
  tm.tm_mon = *month - 1;
  tm.tm_mday = *day;
  tm.tm_hour = *hour;
  tm.tm_min = *minute;
  tm.tm_sec = *second;
  return (static_cast<int64_t>(timegm(&tm)) - *zone) * 1'000'000'000 + *fraction;
}

}  // namespace

std::string HumanDuration(nanoseconds duration) {
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return StrCat(seconds, " seconds");
  auto minutes = seconds / 60;
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return StrCat(minutes, " minutes");
  auto hours = (minutes + 30) / 60;
  if (hours == 1) return "About an hour";
  if (hours < 48) return StrCat(hours, " hours");
  if (hours < 24 * 14) return StrCat(hours / 24, " days");
  if (hours < 24 * 60) return StrCat(hours / 24 / 7, " weeks");
  if (hours < 24 * 365 * 2) return StrCat(hours / 24 / 30, " months");
  return StrCat(hours / 24 / 365, " years");
}

std::string HumanAgo(int64_t unix_nanos, int64_t now_unix_nanos) {
  if (unix_nanos == 0) return "";
  return HumanDuration(nanoseconds(now_unix_nanos - unix_nanos)) + " ago";
}

std::string HumanSize(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kNames = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto size = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 and more would be written as 1e+03.
  while (size >= 999.5 && unit + 1 < kNames.size()) {
    size /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3g%s", size, kNames[unit]);
  return text;
}

std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return text;
}

std::string ShortId(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, 13));
}

Result<nanoseconds> ParseDuration(std::string_view text) {
  std::string_view rest = text;
  double total = 0;
  if (auto seconds = ParseDecimal(text)) {
    total = *seconds * 1e9;
  } else {
    if (rest.empty()) return BadDuration(text);
    while (!rest.empty()) {
      size_t digits = 0;
      while (digits < rest.size() && IsNumberChar(rest[digits])) ++digits;
      size_t end = digits;
      while (end < rest.size() && !IsNumberChar(rest[end])) ++end;
      auto number = ParseDecimal(rest.substr(0, digits));
      const Unit* unit = FindUnit(rest.substr(digits, end - digits));
      if (!number || unit == nullptr) return BadDuration(text);
      total += *number * unit->nanos;
      rest.remove_prefix(end);
    }
  }
  if (!(total < 9e18)) return Error(Code::kInvalidArgument, StrCat("duration too long: ", Quote(text)));
  return nanoseconds(static_cast<int64_t>(std::llround(total)));
}

Result<int64_t> ParseRfc3339(std::string_view text) {
  if (auto nanos = ParseRfc3339Maybe(text)) return *nanos;
  return Error(Code::kInvalidArgument, StrCat("no RFC 3339 time: ", Quote(text)));
}

Result<int64_t> ParseSince(std::string_view text, int64_t now_unix_nanos) {
  if (auto nanos = ParseRfc3339Maybe(text)) return *nanos;
  // Nobody asks for the last 31 years by a bare number of seconds.
  if (auto seconds = ParseInt<int64_t>(text); seconds && *seconds > 1'000'000'000 && *seconds < 9'000'000'000) {
    return *seconds * 1'000'000'000;
  }
  auto ago = ParseDuration(text);
  if (!ago) return Error(Code::kInvalidArgument, StrCat("neither a time nor a duration: ", Quote(text)));
  return now_unix_nanos - ago->count();
}

Result<int64_t> ParseBytes(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && IsNumberChar(text[digits])) ++digits;
  auto number = ParseDecimal(text.substr(0, digits));
  std::string_view unit = text.substr(digits);
  if (unit.size() == 2 && (unit[1] == 'i' || unit[1] == 'B' || unit[1] == 'b')) unit.remove_suffix(1);
  static constexpr std::string_view kLetters = "bkmgt";
  size_t power = 0;
  if (!unit.empty()) {
    power = unit.size() == 1 ? kLetters.find(static_cast<char>(unit[0] | 0x20)) : std::string_view::npos;
  }
  if (!number || power == std::string_view::npos) {
    return Error(Code::kInvalidArgument, StrCat("no number of bytes: ", Quote(text), " (like 512Mi)"));
  }
  double bytes = *number * std::pow(1024.0, static_cast<double>(power));
  if (!(bytes < 9e18)) return Error(Code::kInvalidArgument, StrCat("too many bytes: ", Quote(text)));
  return static_cast<int64_t>(bytes);
}

}  // namespace crisp::ctl
