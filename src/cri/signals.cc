#include "cri/signals.h"

#include <csignal>
#include <iterator>

#include "base/strings.h"

namespace crisp::cri {
namespace {

// Index: CRI's enumerator 1 … 34. CRI has some signals twice (SIGCLD, SIGIOT, SIGPOLL), as C has.
constexpr int kNamed[] = {0,       SIGABRT, SIGALRM,   SIGBUS,  SIGCHLD,   SIGCHLD,  SIGCONT, SIGFPE,  SIGHUP,
                          SIGILL,  SIGINT,  SIGIO,     SIGABRT, SIGKILL,   SIGPIPE,  SIGIO,   SIGPROF, SIGPWR,
                          SIGQUIT, SIGSEGV, SIGSTKFLT, SIGSTOP, SIGSYS,    SIGTERM,  SIGTRAP, SIGTSTP, SIGTTIN,
                          SIGTTOU, SIGURG,  SIGUSR1,   SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ};
constexpr int kNamedCount = static_cast<int>(std::size(kNamed));
static_assert(kNamedCount == 35);

// CRI 35 … 65 are SIGRTMIN … SIGRTMAX. The kernel's users number them 34 … 64: libc keeps 32 and 33 for itself.
constexpr int kRtMinCri = 35, kRtMaxCri = 65, kRtMin = 34;

}  // namespace

Result<int> SignalFromCri(int value) {
  if (value >= 0 && value < kNamedCount) return kNamed[value];
  if (value >= kRtMinCri && value <= kRtMaxCri) return value - kRtMinCri + kRtMin;
  return Error(Code::kInvalidArgument, StrCat("stop_signal: ", value, " is no signal"));
}

int SignalToCri(int number) {
  for (int i = 1; i < kNamedCount; ++i) {
    if (kNamed[i] == number) return i;
  }
  if (number >= kRtMin && number <= kRtMin + kRtMaxCri - kRtMinCri) return number - kRtMin + kRtMinCri;
  return 0;
}

}  // namespace crisp::cri
