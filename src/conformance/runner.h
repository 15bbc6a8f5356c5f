// Runs specs, each in a process of its own, several at once, serial ones alone at the end.
// Threading: Run blocks; its threads are its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "conformance/context.h"
#include "conformance/spec_info.h"

namespace crisp::conformance {

struct SpecResult {
  enum class Verdict { kPassed, kFailed, kSkipped };
  const SpecInfo* spec = nullptr;
  Verdict verdict = Verdict::kFailed;
  std::string fault;     // what was injected, if anything
  bool struck = false;   // the fault has changed something
  bool crashed = false;  // the spec's process gave no verdict
  double seconds = 0;
  std::string message;  // of failures, or why it was skipped
  std::string output;
};
const char* VerdictName(SpecResult::Verdict verdict);

struct Job {
  const SpecInfo* spec = nullptr;
  std::string fault;
};

std::vector<SpecResult> RunJobs(const Context& context, const std::vector<Job>& jobs, int parallel,
                                const std::function<void(const SpecResult&)>& on_result);

// In the process of one spec: runs it and writes its result. The exit code.
int RunOneSpec(const Context& context, const std::string& full_name, const std::string& result_path, int* argc,
               char** argv);

}  // namespace crisp::conformance
