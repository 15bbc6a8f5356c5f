// Retries: undos that failed are tried again, each after twice the pause of the time before, until they succeed. One
// thread; nothing wakes up while nothing is owed. What has not been tried when it is destroyed is recovery's.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include "base/context.h"
#include "base/ids.h"
#include "base/synchronized.h"

namespace crisp::pod {

class Retries {
 public:
  static constexpr std::chrono::milliseconds kPauseMax = std::chrono::minutes(5);

  // `work` tries once, on this object's thread; false: it is still owed.
  Retries(std::chrono::milliseconds first_pause, std::function<bool(const PodId&)> work)
      : first_pause_(first_pause), work_(std::move(work)), thread_([this] { Run(); }) {}
  ~Retries() { Stop(); }

  // Owed already: its pauses go on as they are.
  void Add(const PodId& id) {
    state_.Lock()->owed.try_emplace(id, Owed{Clock::now() + first_pause_, first_pause_});
    changed_.notify_all();
  }
  void Stop() {
    state_.Lock()->stopping = true;
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Owed {
    Clock::time_point at;
    std::chrono::milliseconds pause;
  };
  struct State {
    std::map<PodId, Owed> owed;
    bool stopping = false;
  };

  void Run() {
    while (true) {
      std::optional<PodId> due;
      {
        auto state = state_.Lock();
        if (state->stopping) return;
        auto next = std::ranges::min_element(state->owed, {}, [](const auto& each) { return each.second.at; });
        if (next == state->owed.end()) {
          state.Wait(changed_, [&] { return state->stopping || !state->owed.empty(); });
        } else if (Clock::time_point at = next->second.at; Clock::now() < at) {
          size_t before = state->owed.size();
          state.WaitUntil(changed_, at, [&] { return state->stopping || state->owed.size() != before; });
        } else {
          due = next->first;
        }
      }
      if (!due) continue;
      bool done = work_(*due);
      auto state = state_.Lock();
      Owed& owed = state->owed.at(*due);
      owed.pause = std::min(owed.pause * 2, kPauseMax);
      owed.at = Clock::now() + owed.pause;
      if (done) state->owed.erase(*due);
    }
  }

  const std::chrono::milliseconds first_pause_;
  const std::function<bool(const PodId&)> work_;
  Synchronized<State> state_;
  std::condition_variable changed_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace crisp::pod
