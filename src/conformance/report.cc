#include "conformance/report.h"

#include <algorithm>
#include <cstdio>

#include "base/strings.h"
#include "base/time.h"
#include "conformance/embedded.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

constexpr size_t kDocumentBytesMax = 256u << 20;

// Text for XML 1.0: what it cannot hold becomes '?'.
std::string Xml(std::string_view text) {
  std::string out;
  const bool utf8 = IsValidUtf8(text);
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\n')
      out += "&#10;";
    else if ((byte < 0x20 && c != '\t') || (byte >= 0x80 && !utf8))
      out += '?';
    else
      out += c;
  }
  return out;
}

std::string Seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", seconds);
  return text;
}

void AppendSpec(std::string& out, const Json& spec) {
  std::string name = spec["name"];
  if (spec.contains("fault")) name += StrCat(" under ", spec["fault"].get<std::string>());
  out += StrCat("    <testcase classname=\"", Xml(spec["group"].get<std::string>()), "\" name=\"", Xml(name),
                "\" time=\"", Seconds(spec["seconds"]), "\"");
  std::string message = Xml(spec["message"].get<std::string>());
  if (spec["verdict"] == "failed") {
    out += StrCat(">\n      <failure message=\"", message.substr(0, message.find("&#10;")), "\">", message,
                  "</failure>\n    </testcase>\n");
  } else if (spec["verdict"] == "skipped") {
    out += StrCat(">\n      <skipped message=\"", message, "\"/>\n    </testcase>\n");
  } else {
    out += "/>\n";
  }
}

void AppendBenchmark(std::string& out, const Json& benchmark) {
  for (size_t i = 0; i < benchmark["operations"].size(); ++i) {
    std::vector<double> values;
    for (const Json& sample : benchmark["samples"]) values.push_back(sample["durations_ns"][i].get<double>() / 1e9);
    if (values.empty()) continue;
    std::sort(values.begin(), values.end());
    out += StrCat("    <testcase classname=\"Benchmark ", Xml(benchmark["name"].get<std::string>()), "\" name=\"",
                  Xml(benchmark["operations"][i].get<std::string>()), "\" time=\"", Seconds(values[values.size() / 2]),
                  "\"/>\n");
  }
}

size_t Count(const Json& document, const char* verdict) {
  return static_cast<size_t>(std::count_if(document["specs"].begin(), document["specs"].end(),
                                           [&](const Json& spec) { return spec["verdict"] == verdict; }));
}

}  // namespace

Json SpecsDocument(const std::vector<SpecResult>& results) {
  Json specs = Json::array();
  for (const SpecResult& result : results) {
    Json spec = {{"group", result.spec->group}, {"name", result.spec->name}, {"verdict", VerdictName(result.verdict)},
                 {"seconds", result.seconds},   {"message", result.message}, {"like", result.spec->options.like}};
    if (!result.fault.empty()) spec["fault"] = result.fault;
    specs.push_back(std::move(spec));
  }
  std::stable_sort(specs.begin(), specs.end(), [](const Json& a, const Json& b) {
    return std::pair(a["group"], a["name"]) < std::pair(b["group"], b["name"]);
  });
  return specs;
}

std::string JUnitReport(const Json& document) {
  double seconds = document["finished"].get<double>() - document["started"].get<double>();
  std::string counts =
      StrCat("tests=\"", document["specs"].size(), "\" failures=\"", Count(document, "failed"),
             "\" errors=\"0\" skipped=\"", Count(document, "skipped"), "\" time=\"", Seconds(seconds), "\"");
  std::string out = StrCat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites ", counts, ">\n  <testsuite name=\"crisptest\" ", counts,
      " timestamp=\"", FormatRfc3339Nano(static_cast<int64_t>(document["started"].get<double>() * 1e9)).substr(0, 19),
      "\">\n    <properties>\n");
  for (const auto& [key, value] : document["runtime"].items()) {
    out += StrCat("      <property name=\"runtime.", Xml(key), "\" value=\"", Xml(value.get<std::string>()), "\"/>\n");
  }
  out += "    </properties>\n";
  for (const Json& spec : document["specs"]) AppendSpec(out, spec);
  for (const Json& benchmark : document["benchmarks"]) AppendBenchmark(out, benchmark);
  return out + "  </testsuite>\n</testsuites>\n";
}

std::string HtmlReport(const std::vector<Json>& documents) {
  constexpr std::string_view kMark = "/*RESULTS*/[]";
  std::string page(embedded::ReportTemplate());
  std::string data = DumpJson(Json(documents));
  for (size_t at = 0; (at = data.find('<', at)) != std::string::npos;)
    data.replace(at, 1, "\\u003c");  // no "</script>"
  size_t mark = page.find(kMark);
  if (mark != std::string::npos) page.replace(mark, kMark.size(), data);
  return page;
}

Result<> Publish(const Json& document, const std::string& directory) {
  TRY(sys::MakeDirs(StrCat(directory, "/artifacts"), 0755));
  auto write = [&directory](const std::string& name, const std::string& content) {
    return sys::WriteFileAtomic(StrCat(directory, "/", name), content, 0644, sys::Durability::kNone);
  };
  const Json& runtime = document["runtime"];
  const std::string version = StrCat(runtime["name"].get<std::string>(), " ", runtime["version"].get<std::string>());
  Json metadata = {{"suite", document["suite"]},
                   {"suite-version", document["version"]},
                   {"runtime", runtime["name"]},
                   {"runtime-version", runtime["version"]},
                   {"runtime-handler", runtime["handler"]},
                   {"cri-version", runtime["api_version"]},
                   {"kernel", document["host"]["kernel"]}};
  int64_t started = static_cast<int64_t>(document["started"].get<double>());
  int64_t finished = static_cast<int64_t>(document["finished"].get<double>());
  bool passed = Count(document, "failed") == 0;
  TRY(write("started.json",
            DumpJson({{"timestamp", started}, {"node", document["host"]["name"]}, {"repo-version", version}})));
  TRY(write("finished.json", DumpJson({{"timestamp", finished},
                                       {"passed", passed},
                                       {"result", passed ? "SUCCESS" : "FAILURE"},
                                       {"revision", version},
                                       {"metadata", metadata}})));
  TRY(write("artifacts/metadata.json", DumpJson(metadata)));
  TRY(write("artifacts/junit_01.xml", JUnitReport(document)));
  TRY(write("artifacts/results.json", DumpJson(document)));
  return write("artifacts/report.html", HtmlReport({document}));
}

Result<Json> ReadDocument(const std::string& path) {
  std::string text = TRY(sys::ReadFile(path, kDocumentBytesMax));
  Json document = TRY(ParseJson(text, path, {.bytes_max = kDocumentBytesMax}));
  for (const char* member : {"suite", "runtime", "host", "started", "finished", "specs", "benchmarks"}) {
    if (!document.is_object() || !document.contains(member)) {
      return Error(Code::kInvalidArgument, StrCat(path, ": no result document of crisptest: no ", member));
    }
  }
  return document;
}

}  // namespace crisp::conformance
