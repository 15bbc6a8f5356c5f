#include "pod/events.h"

namespace crisp::pod {

runtime::Events EventRelay::Callbacks() {
  runtime::Events events;
  events.on_exit = [this](const PodId& pod, const ContainerId& container, const runtime::ContainerExit& exit) {
    Deliver(ExitEvent{pod, container, exit});
  };
  events.on_shim_lost = [this](const PodId& pod) { Deliver(ShimLostEvent{pod}); };
  events.on_connection_lost = [this](const PodId& pod) { Deliver(ConnectionLostEvent{pod}); };
  return events;
}

void EventRelay::Listen(Listener listener) {
  auto state = state_.Lock();
  state->ended = !listener;
  state->listener = std::move(listener);
  std::vector<RuntimeEvent> waiting = std::exchange(state->waiting, {});
  if (!state->listener) return;
  for (RuntimeEvent& event : waiting) state->listener(std::move(event));
}

void EventRelay::Deliver(RuntimeEvent event) {
  auto state = state_.Lock();
  if (state->listener) {
    state->listener(std::move(event));
  } else if (!state->ended) {
    state->waiting.push_back(std::move(event));
  }
}

}  // namespace crisp::pod
