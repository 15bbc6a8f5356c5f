// A few network namespaces made ahead, so that a pod need not wait for the kernel to make one (0.35 ms). They are
// pinned nowhere and die with the process: there is nothing to clean up. Threading: any thread.
#pragma once

#include <memory>
#include <vector>

#include "base/synchronized.h"
#include "sys/netns.h"

namespace crisp::network {

using sys::Sysctls;

class NetnsPool {
 public:
  static constexpr size_t kSpare = 4;
  static constexpr int kPerProc = 32;  // namespaces that get their sysctls by one instance of proc

  // With these sysctls set; made now if there is no spare one.
  Result<sys::NewNetns> Take(const Sysctls& sysctls);
  // The same for a new namespace that somebody else made.
  Result<sys::NewNetns> Furnish(sys::UniqueFd netns, const Sysctls& sysctls);
  // The next burst of pods would find none.
  bool RunsOut() const { return state_.Lock()->spare.size() < kSpare / 2; }
  // Makes the pool full again, of what was last taken. Blocking; one caller at a time.
  Result<> Refill();
  // Forgets all, as when there are no pods: an idle node keeps nothing.
  void Drain();

 private:
  struct State {
    Sysctls sysctls;  // of all the spare ones
    std::vector<sys::NewNetns> spare;
  };
  struct Proc {
    std::shared_ptr<const sys::UniqueFd> root;
    int uses = 0;
  };
  std::shared_ptr<const sys::UniqueFd> OwnProc();
  Result<sys::NewNetns> Create(const Sysctls& sysctls);

  Synchronized<State> state_;
  Synchronized<Proc> proc_;
};

}  // namespace crisp::network
