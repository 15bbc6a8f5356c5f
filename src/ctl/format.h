// How crispctl writes times, sizes and ids, and how it reads durations: the forms crictl's users know.
// Pure; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::ctl {

// "Less than a second", "5 seconds", "About a minute", "12 minutes", "3 hours", "2 days", "5 weeks", "4 months", "2
// years".
std::string HumanDuration(std::chrono::nanoseconds duration);
// The same with " ago"; "" for a time that is not set (0).
std::string HumanAgo(int64_t unix_nanos, int64_t now_unix_nanos);
// Three digits, powers of 1000: "0B", "4.26MB", "1.23GB".
std::string HumanSize(uint64_t bytes);
// ASCII only.
std::string Lower(std::string text);
// The first 13 digits, without "sha256:".
std::string ShortId(std::string_view id);

// Go's durations as crictl takes them ("1h30m", "1.5s", "100ms", "2us"), and a bare number of seconds.
Result<std::chrono::nanoseconds> ParseDuration(std::string_view text);
// RFC 3339 ("2026-01-02T15:04:05.123Z", "…+01:00") as nanoseconds since the epoch.
Result<int64_t> ParseRfc3339(std::string_view text);
// A point in time for --since: RFC 3339, seconds since the epoch ("1767366000"), or a duration before `now`.
Result<int64_t> ParseSince(std::string_view text, int64_t now_unix_nanos);
// "512", "512k", "64Mi", "1G": bytes; k, M, G, T are powers of 1024 as docker has them, as are Ki, Mi, Gi, Ti.
Result<int64_t> ParseBytes(std::string_view text);

}  // namespace crisp::ctl
