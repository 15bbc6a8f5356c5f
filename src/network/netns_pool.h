// A few network namespaces made ahead, so that a pod need not wait for the kernel to make one (0.35 ms). They are
// pinned nowhere and die with the process: there is nothing to clean up. Threading: any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/synchronized.h"
#include "sys/netns.h"

namespace crisp::network {

using Sysctls = std::vector<std::pair<std::string, std::string>>;

class NetnsPool {
 public:
  static constexpr size_t kSpare = 4;

  // With these sysctls set; made now if there is no spare one.
  Result<sys::NewNetns> Take(const Sysctls& sysctls);
  // Makes the pool full again, of what was last taken. Blocking; one caller at a time.
  Result<> Refill();
  // Forgets all, as when there are no pods: an idle node keeps nothing.
  void Drain();

 private:
  struct State {
    Sysctls sysctls;  // of all the spare ones
    std::vector<sys::NewNetns> spare;
  };
  Synchronized<State> state_;
};

}  // namespace crisp::network
