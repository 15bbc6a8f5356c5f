// What OpenExec and OpenAttach give (pod/manager.h): runtime/streams.h under the names that fronts use.
#pragma once

#include <memory>

#include "runtime/streams.h"

namespace crisp::pod {

using runtime::kStreamDrainTime;
using runtime::StreamFds;
using runtime::StreamSession;
using runtime::StreamWants;
using StreamSessionPtr = std::unique_ptr<StreamSession>;

}  // namespace crisp::pod
