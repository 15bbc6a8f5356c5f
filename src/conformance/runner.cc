#include "conformance/runner.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/context.h"
#include "base/ids.h"
#include "base/strings.h"
#include "conformance/proxy.h"
#include "conformance/spec.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr const char* kVerdicts[] = {"passed", "failed", "skipped"};

SpecResult RunJob(const Context& context, const Job& job) {
  SpecResult result{.spec = job.spec, .fault = job.fault};
  Context own = context;
  own.fault = job.fault;
  std::string path = StrCat(context.work_dir, "/crisptest-result-", RandomHex(6));
  auto begin = std::chrono::steady_clock::now();
  auto ran = sys::Run({},
                      {.program = "/proc/self/exe",
                       .argv0 = "crisptest",
                       .args = {"one-spec", job.spec->FullName(), path, DumpJson(own.ToJson())}},
                      {.timeout = std::chrono::seconds(job.spec->options.timeout_seconds)});
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  auto text = sys::ReadFile(path);
  (void)sys::RemoveFile(path);
  if (!ran) {
    result.message = ran.error().message();
    result.crashed = true;
    return result;
  }
  result.output = ran->out + ran->err;
  auto json = text ? ParseJson(*text, "result") : Result<Json>(text.error());
  if (!json) {
    result.crashed = true;
    result.message = StrCat("the spec's process ended with code ", ran->status.code, " and no result");
    return result;
  }
  for (int i = 0; i < 3; ++i) {
    if ((*json)["verdict"] == kVerdicts[i]) result.verdict = static_cast<SpecResult::Verdict>(i);
  }
  result.message = (*json)["message"];
  result.struck = (*json)["struck"];
  return result;
}

// Collects what GoogleTest says about the one test that runs.
class Collector : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& part) override {
    if (part.passed()) return;
    if (!part.skipped()) failed = true;
    if (part.skipped()) skipped = true;
    std::string_view file = part.file_name() == nullptr ? "" : part.file_name();
    std::string place = part.skipped() || file.empty() || file.ends_with("spec.cc")
                            ? ""
                            : StrCat(file.substr(file.rfind('/') + 1), ":", part.line_number(), ": ");
    std::string_view text = part.message();
    if (text.starts_with("Failed\n")) text.remove_prefix(7);
    message += StrCat(message.empty() ? "" : "\n", place, Trim(text));
  }
  bool failed = false, skipped = false;
  std::string message;
};

}  // namespace

const char* VerdictName(SpecResult::Verdict verdict) { return kVerdicts[static_cast<int>(verdict)]; }

std::vector<SpecResult> RunJobs(const Context& context, const std::vector<Job>& jobs, int parallel,
                                const std::function<void(const SpecResult&)>& on_result) {
  std::vector<SpecResult> results;
  std::mutex mutex;  // guards results and on_result
  auto run = [&](const std::vector<const Job*>& queue, int workers) {
    std::atomic<size_t> next = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < workers; ++i) {
      threads.emplace_back([&] {
        for (size_t at = next++; at < queue.size(); at = next++) {
          SpecResult result = RunJob(context, *queue[at]);
          std::lock_guard lock(mutex);
          on_result(result);
          results.push_back(std::move(result));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  std::vector<const Job*> together, alone;
  for (const Job& job : jobs) (job.spec->options.serial ? alone : together).push_back(&job);
  run(together, parallel);
  run(alone, 1);
  return results;
}

int RunOneSpec(const Context& context, const std::string& full_name, const std::string& result_path, int* argc,
               char** argv) {
  testing::InitGoogleTest(argc, argv);
  testing::GTEST_FLAG(filter) = full_name;
  testing::GTEST_FLAG(print_time) = false;
  auto* collector = new Collector;  // GoogleTest's from now on
  testing::UnitTest::GetInstance()->listeners().Append(collector);

  Cri direct(context.runtime_endpoint, context.image_endpoint, milliseconds(context.runtime_timeout_ms),
             milliseconds(context.image_timeout_ms));
  std::unique_ptr<Proxy> proxy;
  std::unique_ptr<Cri> proxied;
  if (!context.fault.empty()) {
    auto faults = ParseFaults(context.fault);
    std::string socket = StrCat(context.work_dir, "/crisptest-", RandomHex(6), ".sock");
    if (faults) proxy = std::make_unique<Proxy>(direct, *faults, socket);
    if (!proxy || !proxy->ok()) {
      std::fprintf(stderr, "crisptest: no proxy for %s: %s\n", context.fault.c_str(),
                   faults ? socket.c_str() : faults.error().message().c_str());
      return 2;
    }
    proxied = std::make_unique<Cri>(socket, "", milliseconds(context.runtime_timeout_ms),
                                    milliseconds(context.image_timeout_ms));
  }
  UseContext(context, proxied ? *proxied : direct, direct);
  if (RUN_ALL_TESTS() != 0) collector->failed = true;
  auto verdict = collector->failed    ? SpecResult::Verdict::kFailed
                 : collector->skipped ? SpecResult::Verdict::kSkipped
                                      : SpecResult::Verdict::kPassed;
  Json result = {
      {"verdict", VerdictName(verdict)}, {"message", collector->message}, {"struck", proxy && proxy->struck()}};
  if (!sys::WriteFileAtomic(result_path, DumpJson(result), 0600, sys::Durability::kNone)) return 2;
  proxied.reset();
  return collector->failed ? 1 : 0;
}

}  // namespace crisp::conformance
