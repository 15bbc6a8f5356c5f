// Feed: what happens to pods and containers, told in order to whoever watches (CRI's GetContainerEvents).
//
// An event is a change of what lists and statuses show, made in the same moment as that change. So the order per object
// is the order of its states, no state change is without an event, and an event's snapshot holds exactly what the lists
// held. Nothing is told twice and nothing from before the watch.
//
// A watcher that does not keep up loses its queue, not single events: it is told so, once, and has to list anew
// (user pain 36). Publishing never waits for a watcher.
//
// Threading: any thread. A watcher's lock is the last of all: `wake` is called with the store's locks held.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/synchronized.h"

namespace crisp::pod {

struct SandboxStatus;
struct ContainerStatus;
using SandboxRef = std::shared_ptr<const SandboxStatus>;
using ContainerRef = std::shared_ptr<const ContainerStatus>;

enum class EventType { kCreated, kStarted, kStopped, kDeleted };  // CRI's order

struct ObjectEvent {
  uint64_t sequence = 0;  // 1, 2, 3 … of all events of this crispd that anybody watched
  EventType type = EventType::kCreated;
  std::string id;                        // of the container, or of the sandbox when it is the sandbox's own event
  int64_t created_at = 0;                // as PodSnapshot::at
  SandboxRef sandbox;                    // of a deleted one: as it was last
  std::vector<ContainerRef> containers;  // all that the pod has now
};
using EventRef = std::shared_ptr<const ObjectEvent>;

class Watcher {
 public:
  // `wake` is called whenever there is something to take after there was nothing. It returns at once and calls nothing
  // of the manager's; it may still be called while the watcher is being dropped.
  Watcher(size_t events_max, std::function<void()> wake) : events_max_(events_max), wake_(std::move(wake)) {}

  struct Taken {
    EventRef event;           // the oldest; null: nothing more now
    bool overflowed = false;  // events were lost; there will be no more
  };
  Taken Take();

 private:
  friend class Feed;
  void Push(const EventRef& event);

  const size_t events_max_;
  const std::function<void()> wake_;
  struct State {
    std::deque<EventRef> events;
    bool overflowed = false;
  };
  Synchronized<State> state_;
};

class Feed {
 public:
  // Watches until the pointer is dropped.
  std::shared_ptr<Watcher> Watch(size_t events_max, std::function<void()> wake);
  bool watched();
  // Gives the event its sequence number.
  void Publish(ObjectEvent event);

 private:
  struct State {
    std::vector<std::weak_ptr<Watcher>> watchers;
    uint64_t last_sequence = 0;
  };
  static void DropGone(State& state);
  Synchronized<State> state_;
};

}  // namespace crisp::pod
