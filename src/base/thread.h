// Threads that may not be to be had: std::thread throws where a limit of the system or of our cgroup is reached (EAGAIN,
// pthread_create(3)), and an exception that nobody catches ends the daemon.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "base/result.h"
#include "base/strings.h"

namespace crisp {

// A thread that runs `work`; Thread is std::thread or std::jthread. kResourceExhausted: there is none, and `work` was not
// begun.
template <class Thread = std::thread, class Work>
Result<Thread> StartThread(Work&& work) {
  try {
    return Thread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    return Error(Code::kResourceExhausted, StrCat("start a thread: ", error.what()));
  }
}

}  // namespace crisp
