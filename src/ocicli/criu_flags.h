// The flags of checkpoint and restore as criu's command line, with what native/criu.h says of the container. Pure.
#pragma once

#include <string>
#include <vector>

#include "native/criu.h"
#include "ocicli/flags.h"

namespace crisp::ocicli {

std::vector<std::string> CriuDumpArgs(const Flags& flags, const native::DumpPlan& plan, const native::CriuDirs& dirs);
std::vector<std::string> CriuRestoreArgs(const Flags& flags, const native::RestorePlan& plan,
                                         const native::CriuDirs& dirs);

}  // namespace crisp::ocicli
