#include "network/netns_pool.h"

#include <algorithm>

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

Result<NetnsPool::Taken> NetnsPool::Take(const Wanted& wanted) {
  std::vector<Taken> unwanted;  // closed without our lock
  {
    auto state = state_.Lock();
    if (state->wanted != wanted) {
      unwanted.swap(state->spare);
      state->wanted = wanted;
    }
    if (!state->spare.empty()) {
      Taken spare = std::move(state->spare.back());
      state->spare.pop_back();
      return spare;
    }
  }
  return Taken{TRY(Create(wanted.sysctls)), ""};
}

Result<bool> NetnsPool::Refill(const Ctx& ctx, const std::function<bool()>& calm) {
  while (true) {
    TRY(ctx.Check());
    const bool pairs = calm();
    Wanted wanted;
    std::optional<Taken> spare;  // one that lacks a pair
    {
      auto state = state_.Lock();
      wanted = state->wanted;
      auto lacking = std::ranges::find_if(state->spare, [&](const Taken& each) { return wanted.pair && each.host_link.empty(); });
      if (pairs && lacking != state->spare.end()) {
        spare = std::move(*lacking);
        state->spare.erase(lacking);
      } else if (state->spare.size() >= kSpare) {
        return lacking == state->spare.end();
      }
    }
    if (!spare) spare = Taken{TRY(Create(wanted.sysctls)), ""};
    // An error: half a pair would be in an attachment's way, so the namespace is not kept.
    if (pairs && wanted.pair) spare->host_link = TRY(MakePairAhead(*wanted.pair, spare->netns.fd));
    auto state = state_.Lock();
    if (state->wanted != wanted) continue;
    // The last is taken first.
    auto place = spare->host_link.empty() ? state->spare.begin() : state->spare.end();
    state->spare.insert(place, *std::move(spare));
  }
}

std::vector<NetnsPool::Taken> NetnsPool::Drain() {
  std::vector<Taken> unwanted;
  unwanted.swap(state_.Lock()->spare);
  std::shared_ptr<const sys::UniqueFd> root;
  root.swap(proc_.Lock()->root);
  return unwanted;
}

}  // namespace crisp::network
