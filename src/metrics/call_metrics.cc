#include "metrics/call_metrics.h"

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/strings.h"

namespace crisp::metrics {
namespace {

std::string Seconds(int64_t nanos) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(nanos) / 1e9);
  return text;
}

std::string CodeLabel(int code) { return code == 0 ? "OK" : std::string(CodeName(static_cast<Code>(code))); }

}  // namespace

void CallMetrics::Observe(const char* method, int code, std::chrono::nanoseconds took) {
  int64_t micros = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
  size_t bucket = static_cast<size_t>(std::ranges::lower_bound(kBounds, micros) - kBounds.begin());
  auto state = state_.Lock();
  ++state->calls[{method, code}];
  Histogram& histogram = state->latencies[method];
  ++histogram.counts[bucket];
  histogram.sum_nanos += took.count();
}

void CallMetrics::ObserveStages(const char* method, const std::vector<StageTime>& stages, std::chrono::nanoseconds took) {
  auto state = state_.Lock();
  for (size_t i = 0; i < stages.size(); ++i) {
    int64_t end = i + 1 < stages.size() ? stages[i + 1].begin_nanos : took.count();
    State::Sum& sum = state->stages[{method, stages[i].name}];
    ++sum.count;
    sum.nanos += end - stages[i].begin_nanos;
  }
}

std::string CallMetrics::Render() const {
  auto state = state_.Lock();
  std::string out =
      "# HELP crisp_calls_total Finished CRI calls by their status code.\n# TYPE crisp_calls_total counter\n";
  for (const auto& [key, count] : state->calls) {
    out += StrCat("crisp_calls_total{method=\"", key.first, "\",code=\"", CodeLabel(key.second), "\"} ", count, "\n");
  }
  out += "# HELP crisp_call_seconds How long CRI calls take.\n# TYPE crisp_call_seconds histogram\n";
  for (const auto& [method, histogram] : state->latencies) {
    uint64_t below = 0;
    std::string label = StrCat("{method=\"", method, "\"");
    for (size_t i = 0; i < kBounds.size(); ++i) {
      below += histogram.counts[i];
      out += StrCat("crisp_call_seconds_bucket", label, ",le=\"", Seconds(kBounds[i] * 1000), "\"} ", below, "\n");
    }
    below += histogram.counts.back();
    out += StrCat("crisp_call_seconds_bucket", label, ",le=\"+Inf\"} ", below, "\n");
    out += StrCat("crisp_call_seconds_sum", label, "} ", Seconds(histogram.sum_nanos), "\n");
    out += StrCat("crisp_call_seconds_count", label, "} ", below, "\n");
  }
  out += "# HELP crisp_stage_seconds Where the time of calls goes, stage by stage.\n# TYPE crisp_stage_seconds summary\n";
  for (const auto& [key, sum] : state->stages) {
    std::string label = StrCat("{method=\"", key.first, "\",stage=\"", key.second, "\"} ");
    out += StrCat("crisp_stage_seconds_sum", label, Seconds(sum.nanos), "\n");
    out += StrCat("crisp_stage_seconds_count", label, sum.count, "\n");
  }
  return out;
}

std::string Gauge(const char* name, const char* help, int64_t value) {
  return StrCat("# HELP ", name, " ", help, "\n# TYPE ", name, " gauge\n", name, " ", value, "\n");
}

}  // namespace crisp::metrics
