// A few network namespaces made ahead, so that a pod need not wait for the kernel to make one (0.35 ms) and the veth pair
// in it (as long again). They are pinned nowhere and die with the process, however it ends. Threading: any thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"
#include "network/bridge.h"
#include "sys/netns.h"

namespace crisp::network {

using sys::Sysctls;

class NetnsPool {
 public:
  static constexpr size_t kSpare = 4;
  static constexpr int kPerProc = 32;  // namespaces that get their sysctls by one instance of proc

  // What a namespace shall have.
  struct Wanted {
    Sysctls sysctls;
    std::optional<PairSpec> pair;  // only if it is there already
    friend bool operator==(const Wanted&, const Wanted&) = default;
  };
  struct Taken {
    sys::NewNetns netns;
    std::string host_link;  // the host's end of the pair; "": there is none
  };
  // Made now, without a pair, if there is no spare one.
  Result<Taken> Take(const Wanted& wanted);
  // The same for a new namespace that somebody else made.
  Result<sys::NewNetns> Furnish(sys::UniqueFd netns, const Sysctls& sysctls);
  // The next burst of pods would find none.
  bool RunsOut() const { return state_.Lock()->spare.size() < kSpare / 2; }
  // Makes the pool full again, of what was last taken. Pairs only while it is `calm`: one made ahead is more work in all.
  // False: some lack a pair. An error: some namespaces are missing. Blocking; one caller at a time.
  Result<bool> Refill(const Ctx& ctx, const std::function<bool()>& calm);
  // Forgets all, as when there are no pods: an idle node keeps nothing. Of what it returns the kernel takes the links away
  // some time after the namespaces are closed, if nobody else does.
  std::vector<Taken> Drain();

 private:
  struct State {
    Wanted wanted;  // of all the spare ones
    std::vector<Taken> spare;
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
