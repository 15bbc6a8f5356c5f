// Janitor: what can wait until after the reply, on one thread of its own: links that a torn down namespace left behind,
// the packet table and our bridges once nobody uses them, and plugins' STATUS.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"

namespace crisp::network {

class Janitor {
 public:
  struct Work {
    // Of the links given, removes those that still exist, all at once.
    std::function<void(const std::vector<std::string>& links)> remove_links;
    // Called `kGrace` after the last attachment went; must check again that there is none.
    std::function<void()> remove_unused;
    // Called once, after everything else.
    std::function<void()> leave;
  };
  static constexpr std::chrono::seconds kGrace{2};

  explicit Janitor(Work work);
  ~Janitor();  // does at once what is still to be done

  // The link should vanish with its namespace; in kGrace it is removed if something kept the namespace alive.
  void Doom(const std::string& link);
  void Spare(const std::string& link);  // it has a new life
  void BecameIdle();
  // Runs `task` on the janitor's thread soon, but no sooner than that.
  void Run(std::function<void(const Ctx&)> task, std::chrono::milliseconds delay = {});

 private:
  struct State {
    bool stop = false;
    std::map<std::string, Clock::time_point> doomed;
    std::optional<Clock::time_point> idle_due;
    struct Task {
      Clock::time_point due;
      std::function<void(const Ctx&)> run;
    };
    std::vector<Task> tasks;
    bool changed = false;  // there may be something that is due sooner
  };
  struct Due {
    std::vector<std::string> links;
    std::vector<std::function<void(const Ctx&)>> tasks;
    bool idle = false, last = false;
  };
  void Change(const std::function<void(State&)>& change);
  Due AwaitDue();  // waits until something is
  void Loop(std::stop_token stop);

  const Work work_;
  Synchronized<State> state_;
  std::condition_variable changed_;
  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace crisp::network
