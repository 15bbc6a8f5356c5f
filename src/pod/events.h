// EventRelay: carries what shims tell from the runtime to the manager, which is made after it:
//   EventRelay relay;  Runtime::Make({…, .events = relay.Callbacks()});  Manager::Open(options, {…, relay});
// What comes before the manager listens waits; what comes after it is gone is dropped (exit files remain).
// Threading: any thread. Order of destruction: manager, runtime, relay.
#pragma once

#include <functional>
#include <variant>
#include <vector>

#include "base/synchronized.h"
#include "runtime/runtime.h"

namespace crisp::pod {

struct ExitEvent {
  PodId pod;
  ContainerId container;
  runtime::ContainerExit exit;
};
struct ShimLostEvent {
  PodId pod;
};
struct ConnectionLostEvent {
  PodId pod;
};
using RuntimeEvent = std::variant<ExitEvent, ShimLostEvent, ConnectionLostEvent>;

class EventRelay {
 public:
  using Listener = std::function<void(RuntimeEvent)>;

  runtime::Events Callbacks();
  // `listener` returns quickly and does not call back. An empty one ends listening: after Listen returns the old one is
  // not running and never will.
  void Listen(Listener listener);

 private:
  void Deliver(RuntimeEvent event);
  struct State {
    Listener listener;
    std::vector<RuntimeEvent> waiting;
    bool ended = false;
  };
  Synchronized<State> state_;  // held while the listener runs
};

}  // namespace crisp::pod
