// Work that goes on beside the caller's own. Threading: the work runs on another thread, or on the caller's.
#pragma once

#include <future>
#include <system_error>
#include <type_traits>

namespace crisp {

// Runs `work` on a thread of its own; where none can be made (EAGAIN: the limit of threads of the system or of our
// cgroup) now, before this returns. The future's destructor waits for it.
template <class Work>
std::future<std::invoke_result_t<Work&>> Beside(Work work) {
  try {
    return std::async(std::launch::async, work);
  } catch (const std::system_error&) {
    std::promise<std::invoke_result_t<Work&>> done;
    done.set_value(work());
    return done.get_future();
  }
}

}  // namespace crisp
