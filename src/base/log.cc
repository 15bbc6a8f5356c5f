#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <ctime>

#include "base/time.h"

namespace crisp {

static std::atomic<LogLevel> g_lowest = LogLevel::kInfo;
static std::atomic<LogFormat> g_format = LogFormat::kText;
static std::atomic<int> g_fd = 2;

void SetLog(LogLevel lowest, LogFormat format, int fd) {
  g_lowest = lowest;
  g_format = format;
  g_fd = fd;
}

bool LogEnabled(LogLevel level) { return level >= g_lowest.load(std::memory_order_relaxed); }

static std::string_view NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kError: return "error";
  }
  return "?";
}

static void AppendJsonString(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  bool utf8 = IsValidUtf8(text);
  out += '"';
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20 || u == 0x7f || (!utf8 && u >= 0x80)) {
      out += "\\u00";
      out += kHex[u >> 4];
      out += kHex[u & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (!LogEnabled(level)) return;
  std::string line;
  line.reserve(256);
  if (g_format == LogFormat::kJson) {
    line += "{\"time\":\"";
    line += FormatRfc3339Nano(UnixNanosNow());
    line += "\",\"level\":\"";
    line += NameOf(level);
    line += "\",\"message\":";
    AppendJsonString(line, message);
    for (const LogField& field : fields) {
      line += ',';
      AppendJsonString(line, field.key);
      line += ':';
      AppendJsonString(line, field.value);
    }
    line += "}\n";
  } else {
    line += FormatRfc3339Nano(UnixNanosNow());
    line += ' ';
    line += NameOf(level);
    line += ' ';
    line += message;
    for (const LogField& field : fields) {
      line += ' ';
      line += field.key;
      line += '=';
      line += Quote(field.value, 4096);
    }
    line += '\n';
  }
  // A log that cannot be written has nowhere to complain; the program goes on.
  [[maybe_unused]] ssize_t ignored = write(g_fd, line.data(), line.size());
}

}  // namespace crisp
