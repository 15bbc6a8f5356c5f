#include "conformance/benchmark.h"

namespace crisp::conformance {
Result<BenchmarkParams> ParseBenchmarkParams(const Json&) { return BenchmarkParams(); }
Result<Json> RunBenchmarks(const Context&, const BenchmarkParams&, const std::vector<std::string>&, const std::string&) { return Json::array(); }
void PrintBenchmarks(const Json&) {}
}  // namespace crisp::conformance
