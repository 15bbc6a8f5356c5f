#include "base/failpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "base/strings.h"

namespace crisp {

namespace {

struct Action {
  bool kill = false;
  int nth = 1;  // fires at this passing
  int passed = 0;
};

std::map<std::string, Action, std::less<>> ParseSpec(const char* spec) {
  std::map<std::string, Action, std::less<>> actions;
  for (std::string_view part : Split(spec, ';')) {
    size_t equals = part.find('=');
    if (equals == std::string_view::npos) continue;
    std::string_view what = part.substr(equals + 1);
    Action action;
    if (size_t star = what.find('*'); star != std::string_view::npos) {
      action.nth = ParseInt<int>(what.substr(star + 1)).value_or(1);
      what = what.substr(0, star);
    }
    action.kill = what == "kill";
    actions.emplace(part.substr(0, equals), action);
  }
  return actions;
}

}  // namespace

const bool g_failpoints_on = std::getenv("CRISP_FAILPOINTS") != nullptr || std::getenv("CRISP_FAILPOINTS_TRACE") != nullptr;

Result<> HitFailpoint(const char* name) {
  static std::mutex mutex;
  static const char* spec = std::getenv("CRISP_FAILPOINTS");
  static auto actions = ParseSpec(spec != nullptr ? spec : "");
  static const char* trace = std::getenv("CRISP_FAILPOINTS_TRACE");
  std::lock_guard lock(mutex);
  if (trace != nullptr) {
    int fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
      std::string line = StrCat(name, "\n");
      [[maybe_unused]] ssize_t ignored = write(fd, line.data(), line.size());
      close(fd);
    }
  }
  auto found = actions.find(std::string_view(name));
  if (found == actions.end() || ++found->second.passed != found->second.nth) return {};
  if (found->second.kill) {
    kill(getpid(), SIGKILL);
    pause();
  }
  return Error(Code::kInternal, StrCat("failpoint ", name));
}

}  // namespace crisp
