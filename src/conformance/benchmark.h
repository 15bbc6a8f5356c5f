// Benchmarks: critest's five families with its parameters and its JSON, and more of our own.
// Threading: RunBenchmarks blocks; its threads are its own.
#pragma once

#include <string>
#include <vector>

#include "conformance/context.h"

namespace crisp::conformance {

// A family with a number of 0 or less is left out.
struct BenchmarkParams {
  int containers = 20, containers_parallel = 1;
  int pods = 20, pods_parallel = 1;
  int images = 10, images_parallel = 1;
  int timeout_seconds = 120;
  std::string pull_image;                                                                 // "": images of our own
  std::vector<std::string> listed_images;                                                 // none: images of our own
  int scratch = 5, execs = 50, density = 20, churn = 40, churn_parallel = 4, stats = 20;  // ours
};
Result<BenchmarkParams> ParseBenchmarkParams(const Json& yaml);

// The "benchmarks" member of a result document. Families whose name matches none of `focus` are left out. Samples also
// go to `output_dir` in critest's format, if it is named.
Result<Json> RunBenchmarks(const Context& context, const BenchmarkParams& params, const std::vector<std::string>& focus,
                           const std::string& output_dir);
void PrintBenchmarks(const Json& benchmarks);

}  // namespace crisp::conformance
