// Many pieces of work on all processors.
#pragma once

#include <cstddef>
#include <functional>

namespace crisp {

// Calls `each` with every number below `count`, in no order: by the calling thread and, where there are enough of them to
// be worth it, by threads that end before this returns. `each` shares nothing without a lock and does not throw.
void InParallel(size_t count, const std::function<void(size_t)>& each);

}  // namespace crisp
