#include "network/janitor.h"

#include <vector>

namespace crisp::network {

Janitor::Janitor(Work work) : work_(std::move(work)), thread_([this] { Loop(stop_.get_token()); }) {}

Janitor::~Janitor() {
  state_.Lock()->stop = true;
  stop_.request_stop();
  changed_.notify_all();
  thread_.join();
}

void Janitor::Doom(const std::string& link) {
  state_.Lock()->doomed[link] = Clock::now() + kGrace;
  changed_.notify_all();
}

void Janitor::Spare(const std::string& link) { state_.Lock()->doomed.erase(link); }

void Janitor::BecameIdle() {
  state_.Lock()->idle_due = Clock::now() + kGrace;
  changed_.notify_all();
}

void Janitor::Run(std::function<void(const Ctx&)> task) {
  state_.Lock()->tasks.push_back(std::move(task));
  changed_.notify_all();
}

void Janitor::Loop(std::stop_token stop) {
  while (true) {
    std::vector<std::string> links;
    std::vector<std::function<void(const Ctx&)>> tasks;
    bool idle = false, last = false;
    {
      auto state = state_.Lock();
      auto next = Clock::time_point::max();
      for (const auto& [link, due] : state->doomed) next = std::min(next, due);
      if (state->idle_due) next = std::min(next, *state->idle_due);
      auto ready = [&] { return state->stop || !state->tasks.empty() || Clock::now() >= next; };
      // A new due time can only be later than those known, except when there were none.
      if (next == Clock::time_point::max()) {
        state.Wait(changed_, [&] { return ready() || !state->doomed.empty() || state->idle_due; });
      } else {
        state.WaitUntil(changed_, next, ready);
      }
      last = state->stop;
      for (auto link = state->doomed.begin(); link != state->doomed.end();) {
        if (last || link->second <= Clock::now()) {
          links.push_back(link->first);
          link = state->doomed.erase(link);
        } else {
          ++link;
        }
      }
      if (state->idle_due && (last || *state->idle_due <= Clock::now())) {
        idle = true;
        state->idle_due.reset();
      }
      tasks.swap(state->tasks);
    }
    if (!links.empty()) work_.remove_links(links);
    if (idle) work_.remove_unused();
    if (last) return;
    Ctx ctx(Clock::time_point::max(), stop, "");
    for (auto& task : tasks) task(ctx);
  }
}

}  // namespace crisp::network
