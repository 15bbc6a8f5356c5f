#include "base/time.h"

#include <ctime>

namespace crisp {

int64_t UnixNanosNow() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

static void AppendDigits(std::string& out, int64_t value, int width) {
  char digits[20];
  for (int i = width - 1; i >= 0; --i) {
    digits[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  out.append(digits, static_cast<size_t>(width));
}

std::string FormatRfc3339Nano(int64_t unix_nanos) {
  time_t seconds = unix_nanos / 1'000'000'000;
  int64_t nanos = unix_nanos % 1'000'000'000;
  if (nanos < 0) {
    nanos += 1'000'000'000;
    --seconds;
  }
  tm parts;
  gmtime_r(&seconds, &parts);
  std::string out;
  out.reserve(30);
  AppendDigits(out, parts.tm_year + 1900, 4);
  out += '-';
  AppendDigits(out, parts.tm_mon + 1, 2);
  out += '-';
  AppendDigits(out, parts.tm_mday, 2);
  out += 'T';
  AppendDigits(out, parts.tm_hour, 2);
  out += ':';
  AppendDigits(out, parts.tm_min, 2);
  out += ':';
  AppendDigits(out, parts.tm_sec, 2);
  out += '.';
  AppendDigits(out, nanos, 9);
  out += 'Z';
  return out;
}

}  // namespace crisp
