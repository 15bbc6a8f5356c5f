// crisp-shim --run-in [--cgroup DIR]… [--open N=PATH]… -- PROGRAM ARGUMENT…: becomes PROGRAM, in these cgroups, with
// these files open. For a criu that makes a container's process where that is to be.
#pragma once

namespace crisp::shim {

// Returns an exit code when it failed, having said why on stderr.
int RunIn(int argc, char** argv);

}  // namespace crisp::shim
