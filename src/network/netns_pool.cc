#include "network/netns_pool.h"

namespace crisp::network {

Result<sys::NewNetns> NetnsPool::Take(const Sysctls& sysctls) {
  std::vector<sys::NewNetns> unwanted;  // closed without our lock
  {
    auto state = state_.Lock();
    if (state->sysctls != sysctls) {
      unwanted.swap(state->spare);
      state->sysctls = sysctls;
    }
    if (!state->spare.empty()) {
      sys::NewNetns netns = std::move(state->spare.back());
      state->spare.pop_back();
      return netns;
    }
  }
  return sys::CreateNetns(sysctls);
}

Result<> NetnsPool::Refill() {
  while (true) {
    Sysctls sysctls;
    {
      auto state = state_.Lock();
      if (state->spare.size() >= kSpare) return {};
      sysctls = state->sysctls;
    }
    sys::NewNetns netns = TRY(sys::CreateNetns(sysctls));
    auto state = state_.Lock();
    if (state->sysctls == sysctls) state->spare.push_back(std::move(netns));
  }
}

void NetnsPool::Drain() {
  std::vector<sys::NewNetns> unwanted;
  unwanted.swap(state_.Lock()->spare);
}

}  // namespace crisp::network
