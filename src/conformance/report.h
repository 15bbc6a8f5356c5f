// What a run leaves behind. The result document (results.json) is what everything else is made from:
//   {"suite", "version", "kind", "label", "runtime": {"name", "version", "api_version", "handler", "endpoint"},
//    "host": {"kernel", "name"}, "started", "finished": seconds since the epoch,
//    "specs": [{"group", "name", "verdict", "seconds", "message", "like": […], "fault"?}],
//    "benchmarks": [{"name", "operations": […], "parallel", "samples": [{"start_ns", "end_ns", "durations_ns": […]}]}]}
// Pure but for the writers. Threading: any.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "conformance/runner.h"

namespace crisp::conformance {

Json SpecsDocument(const std::vector<SpecResult>& results);

// The JUnit report of one result document: specs, and benchmarks as test cases with their medians.
std::string JUnitReport(const Json& document);

// One HTML file with all documents: tests × runs as a grid, benchmarks as plots.
std::string HtmlReport(const std::vector<Json>& documents);

// The files that a TestGrid publisher takes, below `directory`: started.json, finished.json, artifacts/junit_*.xml,
// artifacts/metadata.json, and the result document beside them.
Result<> Publish(const Json& document, const std::string& directory);

Result<Json> ReadDocument(const std::string& path);

}  // namespace crisp::conformance
