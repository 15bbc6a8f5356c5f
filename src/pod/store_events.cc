// What a change of the store tells those who watch: events are differences of what is shown.
#include <algorithm>

#include "base/time.h"
#include "pod/store.h"

namespace crisp::pod {

int64_t Store::NextStamp(Index& index) {
  index.last_stamp = std::max(UnixNanosNow(), index.last_stamp + 1);
  return index.last_stamp;
}

std::vector<ContainerRef> Store::ShownOf(const Index& index, const PodId& pod) {
  std::vector<ContainerRef> out;
  auto ids = index.of_pod.find(pod);
  if (ids == index.of_pod.end()) return out;
  for (const ContainerId& id : ids->second) {
    auto slot = index.containers.find(id.str());
    if (slot != index.containers.end() && slot->second.shown != nullptr) out.push_back(slot->second.shown);
  }
  return out;
}

void Store::Publish(Index& index, EventType type, const std::string& id, const PodId& pod, SandboxRef sandbox) {
  ObjectEvent event;
  event.type = type;
  event.id = id;
  event.created_at = NextStamp(index);
  event.sandbox = std::move(sandbox);
  event.containers = ShownOf(index, pod);
  feed_.Publish(std::move(event));
}

// A sandbox has events as if it were a container of its own, which in other runtimes it is; clients count on them.
void Store::Tell(Index& index, const SandboxRef& before, const SandboxRef& after) {
  if (!feed_.watched()) return;
  auto ready = [](const SandboxRef& s) { return s != nullptr && s->state == SandboxState::kReady; };
  const SandboxRef& known = after != nullptr ? after : before;
  auto publish = [&](EventType type) { Publish(index, type, known->id.str(), known->id, known); };
  if (before == nullptr && after != nullptr) publish(EventType::kCreated);
  if (!ready(before) && ready(after)) publish(EventType::kStarted);
  if (ready(before) && !ready(after)) publish(EventType::kStopped);
  if (before != nullptr && after == nullptr) publish(EventType::kDeleted);
}

void Store::Tell(Index& index, const ContainerRef& before, const ContainerRef& after) {
  if (!feed_.watched()) return;
  auto has_run = [](const ContainerRef& c) {
    if (c == nullptr || c->state == ContainerState::kCreated) return false;
    return c->reason != kReasonStartError;
  };
  auto ended = [](const ContainerRef& c) { return c != nullptr && c->state == ContainerState::kExited; };
  const ContainerRef& known = after != nullptr ? after : before;
  if (known == nullptr) return;
  auto pod = index.pods.find(known->pod.str());
  SandboxRef sandbox = pod != index.pods.end() ? pod->second.shown : nullptr;
  auto publish = [&](EventType type) { Publish(index, type, known->id.str(), known->pod, sandbox); };
  if (before == nullptr) publish(EventType::kCreated);
  // Both at once when the process ended before its start was recorded.
  if (!has_run(before) && has_run(after)) publish(EventType::kStarted);
  if (!ended(before) && (ended(after) || (after == nullptr && has_run(before)))) publish(EventType::kStopped);
  if (after == nullptr) publish(EventType::kDeleted);
}

}  // namespace crisp::pod
