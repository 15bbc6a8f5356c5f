#include "pod/feed.h"

namespace crisp::pod {

Watcher::Taken Watcher::Take() {
  auto state = state_.Lock();
  if (state->overflowed) return {nullptr, true};
  if (state->events.empty()) return {};
  EventRef oldest = std::move(state->events.front());
  state->events.pop_front();
  return {std::move(oldest), false};
}

void Watcher::Push(const EventRef& event) {
  auto state = state_.Lock();
  if (state->overflowed) return;
  bool was_empty = state->events.empty();
  if (state->events.size() < events_max_) {
    state->events.push_back(event);
  } else {
    state->overflowed = true;
    state->events = {};
  }
  if (was_empty || state->overflowed) wake_();
}

std::shared_ptr<Watcher> Feed::Watch(size_t events_max, std::function<void()> wake) {
  auto watcher = std::make_shared<Watcher>(events_max, std::move(wake));
  state_.Lock()->watchers.push_back(watcher);
  return watcher;
}

void Feed::DropGone(State& state) {
  std::erase_if(state.watchers, [](const std::weak_ptr<Watcher>& watcher) { return watcher.expired(); });
}

bool Feed::watched() {
  auto state = state_.Lock();
  DropGone(*state);
  return !state->watchers.empty();
}

void Feed::Publish(ObjectEvent event) {
  auto state = state_.Lock();
  event.sequence = ++state->last_sequence;
  auto shared = std::make_shared<const ObjectEvent>(std::move(event));
  for (const std::weak_ptr<Watcher>& each : state->watchers) {
    if (std::shared_ptr<Watcher> watcher = each.lock()) watcher->Push(shared);
  }
  DropGone(*state);
}

}  // namespace crisp::pod
