// Wall-clock time as CRI has it: nanoseconds since the epoch, in int64_t.
#pragma once

#include <cstdint>
#include <string>

namespace crisp {

int64_t UnixNanosNow();
// "2026-01-02T15:04:05.123456789Z": UTC, nine digits always, so that texts sort as times do.
std::string FormatRfc3339Nano(int64_t unix_nanos);

}  // namespace crisp
