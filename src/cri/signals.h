// CRI's Signal enumeration and the kernel's numbers.
#pragma once

#include "base/result.h"

namespace crisp::cri {

// The kernel's number of CRI's enumerator `value`; 0 for SIGNAL_RUNTIME_DEFAULT. kInvalidArgument: not an enumerator.
Result<int> SignalFromCri(int value);
// CRI's enumerator of the kernel's number; SIGNAL_RUNTIME_DEFAULT for a number that CRI has no name for.
int SignalToCri(int number);

}  // namespace crisp::cri
