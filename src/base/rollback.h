// Rollback: the undo list of a workflow. Each step that made something adds how to unmake it; when the workflow leaves
// early the list runs in reverse. Errors of an undo are logged and the next one runs all the same.
// An undo captures what it needs by value or by a reference that outlives the workflow's function.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"

namespace crisp {

class Rollback {
 public:
  Rollback() = default;
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() { Run(); }

  // `what` names the undo in the log: "tear down network of pod …".
  void Add(std::string what, std::function<Result<>()> undo) { steps_.push_back({std::move(what), std::move(undo)}); }
  // The workflow succeeded: forget the undos.
  void Dismiss() { steps_.clear(); }

 private:
  struct Step {
    std::string what;
    std::function<Result<>()> undo;
  };
  void Run() {
    while (!steps_.empty()) {
      Step step = std::move(steps_.back());
      steps_.pop_back();
      if (Result<> done = step.undo(); !done) {
        LogWarning("undo failed, the sweep will retry", {{"step", step.what}, {"error", done.error()}});
      }
    }
  }
  std::vector<Step> steps_;
};

}  // namespace crisp
