// Logging with keys, for programs' top layers: libraries return errors instead of logging them.
//   LogInfo("container exited", {{"container", id.str()}, {"code", code}});
// One line a record on a file descriptor, as text (time level message key="value" …) or JSON. Small enough for the
// shim: no locale, no iostream, one write(2) per record, so that records of several threads do not mix.
// Threading: any thread; SetLog before the first record. Values are escaped, so input cannot forge a record.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/strings.h"

namespace crisp {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogField {
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, const Error& e) : key(k), value(e.message()) {}
  template <std::integral I>
  LogField(std::string_view k, I v) : key(k), value(StrCat(static_cast<long long>(v))) {}
  std::string_view key;
  std::string value;
};

void SetLog(LogLevel lowest, LogFormat format, int fd = 2);
bool LogEnabled(LogLevel level);
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view m, std::initializer_list<LogField> f = {}) { Log(LogLevel::kDebug, m, f); }
inline void LogInfo(std::string_view m, std::initializer_list<LogField> f = {}) { Log(LogLevel::kInfo, m, f); }
inline void LogWarning(std::string_view m, std::initializer_list<LogField> f = {}) { Log(LogLevel::kWarning, m, f); }
inline void LogError(std::string_view m, std::initializer_list<LogField> f = {}) { Log(LogLevel::kError, m, f); }

}  // namespace crisp
