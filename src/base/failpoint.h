// Failpoints: named places where a test kills or fails the program, to show that nothing is lost or leaked there.
// They do nothing unless the environment variable CRISP_FAILPOINTS was set when the program started:
//   CRISP_FAILPOINTS="run_sandbox.after_netns=kill;start.before_record=error"
// kill: SIGKILL to ourselves. error: kInternal. A number after '*' picks the n-th time only: "…=kill*3".
// Workflows call FAILPOINT("name") between their steps; `crispd` prints all names it passed with
// CRISP_FAILPOINTS_TRACE=FILE, one line each time, which is how the crash test learns them.
#pragma once

#include "base/result.h"

namespace crisp {

Result<> HitFailpoint(const char* name);
// Read once at program start; false when no failpoint can ever fire, so that the check is one load.
extern const bool g_failpoints_on;

}  // namespace crisp

#define FAILPOINT(name)                                              \
  do {                                                               \
    if (::crisp::g_failpoints_on) [[unlikely]] TRY(::crisp::HitFailpoint(name)); \
  } while (false)
