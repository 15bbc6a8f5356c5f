#include "network/janitor.h"

#include <algorithm>
#include <utility>
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
  Change([&](State& state) { state.doomed[link] = Clock::now() + kGrace; });
}

void Janitor::Spare(const std::string& link) { state_.Lock()->doomed.erase(link); }

void Janitor::BecameIdle() {
  Change([](State& state) { state.idle_due = Clock::now() + kGrace; });
}

void Janitor::Run(std::function<void(const Ctx&)> task, std::chrono::milliseconds delay) {
  Change([&](State& state) { state.tasks.push_back({Clock::now() + delay, std::move(task)}); });
}

void Janitor::Change(const std::function<void(State&)>& change) {
  {
    auto state = state_.Lock();
    change(*state);
    state->changed = true;
  }
  changed_.notify_all();
}

Janitor::Due Janitor::AwaitDue() {
  auto state = state_.Lock();
  while (true) {
    auto next = Clock::time_point::max();
    for (const auto& [link, due] : state->doomed) next = std::min(next, due);
    for (const State::Task& task : state->tasks) next = std::min(next, task.due);
    if (state->idle_due) next = std::min(next, *state->idle_due);
    auto ready = [&] { return state->stop || state->changed || Clock::now() >= next; };
    if (next == Clock::time_point::max()) {
      state.Wait(changed_, ready);
    } else {
      state.WaitUntil(changed_, next, ready);
    }
    state->changed = false;
    if (state->stop || Clock::now() >= next) break;
  }
  Due due{.last = state->stop};
  const auto now = due.last ? Clock::time_point::max() : Clock::now();
  std::erase_if(state->doomed, [&](const auto& each) {
    if (each.second > now) return false;
    due.links.push_back(each.first);
    return true;
  });
  std::erase_if(state->tasks, [&](State::Task& task) {
    if (due.last || task.due > now) return false;
    due.tasks.push_back(std::move(task.run));
    return true;
  });
  if (state->idle_due && *state->idle_due <= now) {
    due.idle = true;
    state->idle_due.reset();
  }
  return due;
}

void Janitor::Loop(std::stop_token stop) {
  while (true) {
    Due due = AwaitDue();
    if (!due.links.empty()) work_.remove_links(due.links);
    if (due.idle) work_.remove_unused();
    if (due.last) return work_.leave();
    Ctx ctx(Clock::time_point::max(), stop, "");
    for (auto& task : due.tasks) task(ctx);
  }
}

}  // namespace crisp::network
