// crisptest: conformance and benchmarks of any CRI runtime. Commands and flags: `crisptest --help`,
// docs/conformance.md.
#include <sys/utsname.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <regex>

#include "base/strings.h"
#include "base/time.h"
#include "codec/yaml.h"
#include "conformance/benchmark.h"
#include "conformance/context.h"
#include "conformance/cri.h"
#include "conformance/fault.h"
#include "conformance/images.h"
#include "conformance/proxy.h"
#include "conformance/registry.h"
#include "conformance/report.h"
#include "conformance/runner.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

struct Flags {
  Context context;
  std::string config, images_file, busybox = "/bin/busybox", registry_listen = "127.0.0.1:0";
  std::string report_dir, report_prefix, junit_report, json_report, label;
  std::vector<std::string> focus, skip;
  int parallel = 1;
  bool benchmark = false, dry_run = false, version = false, all_faults = false;
  bool websocket_exec = false, websocket_attach = false, websocket_portforward = false;
  std::string benchmark_params, benchmark_dir;
  std::string out = "report.html";
  std::vector<std::string> inputs;
  std::string directory, listen;
};

[[noreturn]] void Die(const std::string& message) {
  std::cerr << "crisptest: " << message << "\n";
  std::exit(2);
}

template <class T>
T OrDie(Result<T> result) {
  if (!result) Die(result.error().message());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// "5m", "300s", "1h30m", "250ms", or plain seconds.
int64_t ParseDuration(const std::string& text) {
  int64_t total_ms = 0;
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find_first_not_of("0123456789", at);
    auto number = ParseInt<int64_t>(std::string_view(text).substr(at, end - at));
    if (!number) Die(StrCat("not a duration: ", Quote(text)));
    std::string_view unit = end == std::string::npos ? "s" : std::string_view(text).substr(end);
    size_t unit_size = unit.starts_with("ms") ? 2 : 1;
    if (unit.starts_with("ms"))
      total_ms += *number;
    else if (unit[0] == 's')
      total_ms += *number * 1000;
    else if (unit[0] == 'm')
      total_ms += *number * 60'000;
    else if (unit[0] == 'h')
      total_ms += *number * 3'600'000;
    else
      Die(StrCat("not a duration: ", Quote(text)));
    at = end == std::string::npos ? text.size() : end + unit_size;
  }
  return total_ms;
}

void ReadConfig(Flags& flags) {
  if (flags.config.empty()) return;
  Json config = OrDie(codec::ParseYaml(OrDie(sys::ReadFile(flags.config)), flags.config));
  Context defaults;
  auto take = [&](const char* key, std::string& field, const std::string& fallback) {
    if (config.contains(key) && config[key].is_string() && field == fallback) field = config[key];
  };
  take("runtime-endpoint", flags.context.runtime_endpoint, defaults.runtime_endpoint);
  take("image-endpoint", flags.context.image_endpoint, "");
}

void ReadImagesFile(Flags& flags) {
  if (flags.images_file.empty()) return;
  Json file = OrDie(codec::ParseYaml(OrDie(sys::ReadFile(flags.images_file)), flags.images_file));
  const std::pair<const char*, const char*> names[] = {{"defaultTestContainerImage", "busybox"},
                                                       {"webServerTestImage", "web"}};
  for (const auto& [key, ours] : names) {
    if (file.contains(key)) flags.context.images[ours] = file[key];
  }
}

bool Matches(const std::vector<std::string>& patterns, const SpecInfo& spec) {
  for (const std::string& pattern : patterns) {
    std::regex expression(pattern, std::regex::ECMAScript);
    if (std::regex_search(spec.FullName(), expression) || std::regex_search(spec.group + " " + spec.name, expression))
      return true;
  }
  return false;
}

std::vector<const SpecInfo*> Chosen(const Flags& flags) {
  std::vector<const SpecInfo*> chosen;
  for (const SpecInfo& spec : AllSpecs()) {
    if (!flags.focus.empty() && !Matches(flags.focus, spec)) continue;
    if (!flags.skip.empty() && Matches(flags.skip, spec)) continue;
    chosen.push_back(&spec);
  }
  std::sort(chosen.begin(), chosen.end(), [](auto* a, auto* b) { return a->FullName() < b->FullName(); });
  return chosen;
}

double UnixSeconds() { return static_cast<double>(UnixNanosNow()) / 1e9; }

Json NewDocument(const Flags& flags, Cri& cri, const char* kind) {
  auto version = cri.Call("Version", Json::object(), std::chrono::seconds(20));
  if (!version) Die(StrCat("no runtime answers on ", flags.context.runtime_endpoint, ": ", version.error().message()));
  utsname host{};
  uname(&host);
  return {{"suite", "crisptest"},
          {"version", CRISP_VERSION},
          {"kind", kind},
          {"label", flags.label},
          {"runtime",
           {{"name", (*version)["runtime_name"]},
            {"version", (*version)["runtime_version"]},
            {"api_version", (*version)["runtime_api_version"]},
            {"handler", flags.context.runtime_handler},
            {"endpoint", flags.context.runtime_endpoint}}},
          {"host", {{"name", host.nodename}, {"kernel", host.release}}},
          {"started", UnixSeconds()},
          {"finished", UnixSeconds()},
          {"specs", Json::array()},
          {"benchmarks", Json::array()}};
}

void WriteOrDie(const std::string& path, const std::string& content) {
  OrDie(sys::WriteFileAtomic(path, content, 0644, sys::Durability::kNone));
}

void WriteReports(const Flags& flags, const Json& document) {
  if (!flags.junit_report.empty()) WriteOrDie(flags.junit_report, JUnitReport(document));
  if (!flags.json_report.empty()) WriteOrDie(flags.json_report, DumpJson(document));
  if (flags.report_dir.empty()) return;
  OrDie(sys::MakeDirs(flags.report_dir, 0755));
  WriteOrDie(StrCat(flags.report_dir, "/junit_", flags.report_prefix, "crisptest.xml"), JUnitReport(document));
  WriteOrDie(StrCat(flags.report_dir, "/", flags.report_prefix, "results.json"), DumpJson(document));
  WriteOrDie(StrCat(flags.report_dir, "/", flags.report_prefix, "report.html"), HtmlReport({document}));
}

// What a spec could not remove is somebody's trouble later: said whatever the verdict.
void PrintCleanUp(const SpecResult& result) {
  for (std::string_view line : Split(result.output, '\n')) {
    if (line.starts_with("clean-up: ")) std::printf("     ! %s\n", std::string(line).c_str());
  }
}

void PrintResult(const SpecResult& result) {
  std::string mark = result.verdict == SpecResult::Verdict::kPassed   ? "ok  "
                     : result.verdict == SpecResult::Verdict::kFailed ? "FAIL"
                                                                      : "skip";
  std::printf("%s %-62s %6.2f s", mark.c_str(), result.spec->FullName().c_str(), result.seconds);
  if (result.verdict == SpecResult::Verdict::kSkipped) std::printf("  %s", result.message.c_str());
  std::printf("\n");
  if (result.verdict == SpecResult::Verdict::kFailed) {
    for (std::string_view line : Split(result.message, '\n')) std::printf("     | %s\n", std::string(line).c_str());
  }
  PrintCleanUp(result);
  std::fflush(stdout);
}

std::unique_ptr<Registry> ServeImages(Flags& flags) {
  auto registry = std::make_unique<Registry>(OrDie(BuildImages(flags.busybox)));
  OrDie(registry->Start(flags.registry_listen));
  flags.context.registry_host = registry->host();
  for (const auto& [name, image] : registry->images().images) flags.context.digests[name] = image.manifest_digest;
  return registry;
}

Cri Connect(const Context& context) {
  return Cri(context.runtime_endpoint, context.image_endpoint, std::chrono::milliseconds(context.runtime_timeout_ms),
             std::chrono::milliseconds(context.image_timeout_ms));
}

// Removes what specs leave for each other: the images that nearly all of them use.
void RemoveImages(Cri& cri, const Context& context) {
  auto list = cri.Call("ListImages", Json::object());
  if (!list) return;
  for (const Json& image : (*list)["images"]) {
    for (const char* field : {"repo_tags", "repo_digests"}) {
      for (const Json& name : image[field]) {
        if (name.get<std::string>().find(StrCat(context.registry_host, "/crisptest/")) == std::string::npos) continue;
        (void)cri.Call("RemoveImage", {{"image", {{"image", image["id"]}}}});
      }
    }
  }
}

int Validate(Flags& flags) {
  auto specs = Chosen(flags);
  if (flags.dry_run) {
    for (const SpecInfo* spec : specs) std::printf("%s\n", spec->FullName().c_str());
    return 0;
  }
  if (specs.empty()) Die("no spec is chosen");
  auto registry = ServeImages(flags);
  Cri cri = Connect(flags.context);
  Json document = NewDocument(flags, cri, "validation");
  std::vector<Job> jobs;
  for (const SpecInfo* spec : specs) jobs.push_back({spec, flags.context.fault});
  auto results = RunJobs(flags.context, jobs, flags.parallel, PrintResult);
  RemoveImages(cri, flags.context);
  document["finished"] = UnixSeconds();
  document["specs"] = SpecsDocument(results);
  WriteReports(flags, document);
  int counts[3] = {};
  for (const SpecResult& result : results) ++counts[static_cast<int>(result.verdict)];
  std::printf("%d passed, %d failed, %d skipped (%.1f s)\n", counts[0], counts[1], counts[2],
              document["finished"].get<double>() - document["started"].get<double>());
  return counts[1] > 0 ? 1 : 0;
}

// Every spec with each of its faults: each pair must fail. Specs that are skipped without a fault prove nothing here.
int CheckFaults(Flags& flags) {
  auto registry = ServeImages(flags);
  Cri cri = Connect(flags.context);
  Json document = NewDocument(flags, cri, "faults");
  std::vector<Job> jobs;
  int without = 0;
  for (const SpecInfo* spec : Chosen(flags)) {
    if (spec->options.faults.empty()) {
      std::printf("NONE %s names no fault\n", spec->FullName().c_str());
      ++without;
    }
    size_t count = flags.all_faults ? spec->options.faults.size() : std::min<size_t>(1, spec->options.faults.size());
    for (size_t i = 0; i < count; ++i) jobs.push_back({spec, spec->options.faults[i]});
  }
  int caught = 0, missed = 0, skipped = 0;
  std::printf("%-7s %-58s %s\n", "verdict", "spec", "fault");
  auto results = RunJobs(flags.context, jobs, flags.parallel, [&](const SpecResult& result) {
    bool is_caught =
        result.verdict == SpecResult::Verdict::kFailed && !result.crashed;  // a spec must say what is wrong
    // Skipped under the fault only: the spec took the fault for a missing feature.
    bool is_skipped = result.verdict == SpecResult::Verdict::kSkipped &&
                      RunJobs(flags.context, {{result.spec, ""}}, 1, [](const SpecResult&) {})[0].verdict ==
                          SpecResult::Verdict::kSkipped;
    ++(is_caught ? caught : is_skipped ? skipped : missed);
    std::string message = result.message.substr(0, result.message.find('\n')).substr(0, 160);
    if (result.verdict == SpecResult::Verdict::kPassed)
      message = result.struck ? "the spec passed" : "the fault changed nothing";
    std::printf("%-7s %-58s %s\n          %s\n",
                is_caught    ? "caught"
                : is_skipped ? "skipped"
                             : "MISSED",
                result.spec->FullName().c_str(), result.fault.c_str(), message.c_str());
    PrintCleanUp(result);
    std::fflush(stdout);
  });
  RemoveImages(cri, flags.context);
  document["finished"] = UnixSeconds();
  document["specs"] = SpecsDocument(results);
  WriteReports(flags, document);
  std::printf("%d caught, %d missed, %d skipped, %d specs without a fault\n", caught, missed, skipped, without);
  return missed > 0 || without > 0 ? 1 : 0;
}

int Benchmark(Flags& flags) {
  BenchmarkParams params;
  if (!flags.benchmark_params.empty()) {
    params = OrDie(ParseBenchmarkParams(
        OrDie(codec::ParseYaml(OrDie(sys::ReadFile(flags.benchmark_params)), flags.benchmark_params))));
  }
  auto registry = ServeImages(flags);
  Cri cri = Connect(flags.context);
  Json document = NewDocument(flags, cri, "benchmark");
  document["benchmarks"] = OrDie(RunBenchmarks(flags.context, params, flags.focus, flags.benchmark_dir));
  RemoveImages(cri, flags.context);
  document["finished"] = UnixSeconds();
  WriteReports(flags, document);
  PrintBenchmarks(document["benchmarks"]);
  return 0;
}

int List(const Flags& flags) {
  for (const SpecInfo* spec : Chosen(flags)) {
    std::string like;
    for (int number : spec->options.like) like += StrCat(like.empty() ? "" : ",", number);
    std::printf("%s\t%s\t%s\t%s\n", spec->FullName().c_str(), like.c_str(), spec->options.serial ? "serial" : "",
                Join(spec->options.faults, " | ").c_str());
  }
  return 0;
}

int MakeReport(const Flags& flags) {
  std::vector<Json> documents;
  for (const std::string& input : flags.inputs) documents.push_back(OrDie(ReadDocument(input)));
  WriteOrDie(flags.out, HtmlReport(documents));
  std::printf("%s\n", flags.out.c_str());
  return 0;
}

int PublishDirectory(const Flags& flags) {
  std::string source = flags.inputs.empty() ? StrCat(flags.directory, "/results.json") : flags.inputs[0];
  OrDie(Publish(OrDie(ReadDocument(source)), flags.directory));
  return 0;
}

int ServeProxy(Flags& flags) {
  Cri cri = Connect(flags.context);
  Proxy proxy(cri, OrDie(ParseFaults(flags.context.fault)), flags.listen);
  if (!proxy.ok()) Die(StrCat("cannot listen on ", flags.listen));
  std::printf("unix://%s\n", flags.listen.c_str());
  std::fflush(stdout);
  while (std::cin.get() != EOF) {
  }
  return 0;
}

int ServeRegistry(Flags& flags) {
  auto registry = ServeImages(flags);
  for (const auto& [name, digest] : flags.context.digests) {
    std::printf("%s/crisptest/%s:latest %s\n", flags.context.registry_host.c_str(), name.c_str(), digest.c_str());
  }
  std::fflush(stdout);
  while (std::cin.get() != EOF) {
  }
  return 0;
}

void AddFlags(CLI::App& app, Flags& flags) {
  Context& c = flags.context;
  auto duration = [&app](const std::string& name, int64_t& field, const std::string& help) {
    app.add_option_function<std::string>(
        name, [&field](const std::string& text) { field = ParseDuration(text); }, help);
  };
  app.add_option("--runtime-endpoint,-r", c.runtime_endpoint, "socket of the runtime service")->capture_default_str();
  app.add_option("--image-endpoint,-i", c.image_endpoint, "socket of the image service (the runtime's)");
  app.add_option("--runtime-handler", c.runtime_handler, "runtime handler of all pods");
  duration("--runtime-service-timeout", c.runtime_timeout_ms, "for each runtime call (300s)");
  duration("--image-service-timeout", c.image_timeout_ms, "for each image call (300s)");
  app.add_option("--config", flags.config, "crictl's configuration file, for the endpoints");
  app.add_option("--registry-prefix", c.registry_prefix, "in front of the images that --test-images-file names");
  app.add_option("--test-images-file", flags.images_file,
                 "YAML: defaultTestContainerImage, webServerTestImage instead of ours");
  app.add_option("--registry-listen", flags.registry_listen, "where the suite's own registry listens, 127.0.0.1:PORT")
      ->capture_default_str();
  app.add_option("--nri-socket", c.nri_socket, "the runtime's NRI socket; without it NRI specs are skipped");
  app.add_option("--focus,--ginkgo.focus", flags.focus, "only specs that match this regular expression (repeatable)")
      ->expected(1)
      ->take_all();
  app.add_option("--skip,--ginkgo.skip", flags.skip, "no specs that match this regular expression (repeatable)")
      ->expected(1)
      ->take_all();
  app.add_option("--parallel", flags.parallel, "specs that run at once")->capture_default_str();
  app.add_flag("--dry-run,--ginkgo.dry-run", flags.dry_run, "name the chosen specs only");
  app.add_option("--report-dir", flags.report_dir, "directory for JUnit, JSON and HTML reports");
  app.add_option("--report-prefix", flags.report_prefix, "begins the names of the reports");
  app.add_option("--junit-report,--ginkgo.junit-report", flags.junit_report, "file for the JUnit report");
  app.add_option("--json-report,--ginkgo.json-report", flags.json_report, "file for the result document");
  app.add_option("--label", flags.label, "what the reports call this run");
  app.add_flag("--benchmark", flags.benchmark, "measure instead of validate");
  app.add_option("--benchmarking-params-file", flags.benchmark_params, "YAML, the keys of critest's");
  app.add_option("--benchmarking-output-dir", flags.benchmark_dir, "directory for samples in critest's JSON");
  app.add_flag("--websocket-exec,--websocket-attach,--websocket-portforward", flags.websocket_exec,
               "streams over WebSocket instead of SPDY");
  app.add_option("--cgroup-parent", c.cgroup_parent, "cgroup of the pods (by the runtime's cgroup driver)");
  app.add_option("--restart-command", c.restart_command, "restarts the daemon; without it restart specs are skipped");
  app.add_option("--cdi-dir", c.cdi_dir, "where the runtime reads CDI specifications")->capture_default_str();
  app.add_option("--work-dir", c.work_dir, "for logs and volumes of pods")->capture_default_str();
  app.add_option("--fault", c.fault, "a fault to inject into every spec (src/conformance/fault.h)");
  duration("--patience", c.patience_ms, "how long a spec waits for what must happen soon (30s)");
  app.add_option("--busybox", flags.busybox, "program for the test images")->capture_default_str();
  app.add_flag("--version", flags.version, "print the version");
}

// Go's flags begin with one dash; CLI11's long ones with two.
std::vector<std::string> TwoDashes(int argc, char** argv) {
  std::vector<std::string> args;
  for (int i = argc - 1; i > 0; --i) {
    std::string arg = argv[i];
    if (arg.size() > 2 && arg[0] == '-' && arg[1] != '-' && arg[2] != '=') arg.insert(0, "-");
    args.push_back(std::move(arg));
  }
  return args;  // last first, as CLI11 wants it
}

int Main(int argc, char** argv) {
  if (argc == 5 && std::string_view(argv[1]) == "one-spec") {
    Context context = Context::FromJson(OrDie(ParseJson(argv[4], "context")));
    return RunOneSpec(context, argv[2], argv[3], &argc, argv);
  }
  Flags flags;
  CLI::App app("crisptest: conformance and benchmarks of CRI runtimes");
  app.fallthrough();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // as Go's flags do
  AddFlags(app, flags);
  auto* list = app.add_subcommand("list", "specs, the critest specs they are like, their faults");
  auto* faults = app.add_subcommand("faults", "run every spec under a fault that must make it fail");
  faults->add_flag("--all", flags.all_faults, "every fault of each spec, not only the first");
  auto* report = app.add_subcommand("report", "one HTML page of many result documents");
  report->add_option("--out,-o", flags.out, "the page")->capture_default_str();
  report->add_option("results", flags.inputs, "result documents (results.json)")->required();
  auto* publish = app.add_subcommand("publish", "lay a run out for a TestGrid publisher");
  publish->add_option("directory", flags.directory, "holds results.json, or will hold the files")->required();
  publish->add_option("--results", flags.inputs, "result document that lies elsewhere");
  auto* proxy = app.add_subcommand("proxy", "serve the runtime's calls with --fault, until stdin ends");
  proxy->add_option("--listen", flags.listen, "path of the socket")->required();
  auto* serve = app.add_subcommand("serve-images", "serve the suite's images, until stdin ends");
  try {
    app.parse(TwoDashes(argc, argv));
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  if (flags.version) {
    std::printf("crisptest %s\n", CRISP_VERSION);
    return 0;
  }
  if (flags.websocket_exec) flags.context.transport = "websocket";
  ReadConfig(flags);
  ReadImagesFile(flags);
  if (list->parsed()) return List(flags);
  if (faults->parsed()) return CheckFaults(flags);
  if (report->parsed()) return MakeReport(flags);
  if (publish->parsed()) return PublishDirectory(flags);
  if (proxy->parsed()) return ServeProxy(flags);
  if (serve->parsed()) return ServeRegistry(flags);
  return flags.benchmark ? Benchmark(flags) : Validate(flags);
}

}  // namespace
}  // namespace crisp::conformance

int main(int argc, char** argv) { return crisp::conformance::Main(argc, argv); }
