#include "network/netns_pool.h"

namespace crisp::network {

// Null where the kernel does not give us one: /proc does, too.
std::shared_ptr<const sys::UniqueFd> NetnsPool::OwnProc() {
  std::shared_ptr<const sys::UniqueFd> old;  // closed without our lock
  auto proc = proc_.Lock();
  if (proc->root == nullptr || proc->uses >= kPerProc) {
    old.swap(proc->root);
    Result<sys::UniqueFd> root = sys::OpenOwnProc();
    if (!root) return nullptr;
    *proc = {std::make_shared<const sys::UniqueFd>(*std::move(root)), 0};
  }
  ++proc->uses;
  return proc->root;
}

Result<sys::NewNetns> NetnsPool::Create(const Sysctls& sysctls) {
  auto proc = OwnProc();
  return sys::CreateNetns(sysctls, proc ? std::optional(proc->borrow()) : std::nullopt);
}

Result<sys::NewNetns> NetnsPool::Furnish(sys::UniqueFd netns, const Sysctls& sysctls) {
  auto proc = OwnProc();
  return sys::FurnishNetns(std::move(netns), sysctls, proc ? std::optional(proc->borrow()) : std::nullopt);
}

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
  return Create(sysctls);
}

Result<> NetnsPool::Refill() {
  while (true) {
    Sysctls sysctls;
    {
      auto state = state_.Lock();
      if (state->spare.size() >= kSpare) return {};
      sysctls = state->sysctls;
    }
    sys::NewNetns netns = TRY(Create(sysctls));
    auto state = state_.Lock();
    if (state->sysctls == sysctls) state->spare.push_back(std::move(netns));
  }
}

void NetnsPool::Drain() {
  std::vector<sys::NewNetns> unwanted;
  unwanted.swap(state_.Lock()->spare);
  std::shared_ptr<const sys::UniqueFd> root;
  root.swap(proc_.Lock()->root);
}

}  // namespace crisp::network
