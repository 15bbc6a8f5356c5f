// How specs are written. GoogleTest is the engine; each spec runs in a process of its own (runner.h), so one that hangs
// or dies takes no other with it, and as many run at once as wanted.
//
//   SPEC(Container, StartedRuns, .like = {81}, .faults = {"StartContainer:noop"}) {
//     Pod pod = RunPod();
//     std::string id = Start(Create(pod, {{"command", {"/guest", "hold"}}}));
//     EXPECT_EQ(Status(id)["state"], "CONTAINER_RUNNING");
//   }
//
// `like`: numbers of the upstream critest specs (docs/conformance.md) that check the same. `faults`: what breaks the
// spec when a proxy does it to the runtime's calls (fault.h): a spec that no fault can break proves nothing.
// What a spec cannot go on without is thrown as Failure or Unsupported by the helpers; the frame turns them into a
// GoogleTest failure or skip. Everything that carries this spec's label is removed at its end.
// Threading: a spec is one thread; what it starts itself it joins.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "conformance/context.h"
#include "conformance/cri.h"
#include "conformance/spec_info.h"

namespace crisp::conformance {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Set by main in the process of a spec, before it runs.
void UseContext(const Context& context, Cri& cri, Cri& direct);

struct Pod {
  std::string id;
  Json config;
  std::string log_dir;
};

struct ExecResult {
  std::string out, err;
  int code = 0;
};

struct LogLine {
  std::string stream, text;
  bool partial = false;
};

class Spec : public testing::Test {
 protected:
  void TestBody() final;
  void TearDown() override;
  virtual void Body() = 0;

  const Context& context() const;
  Cri& cri() const;  // what is tested: through the proxy when a fault is injected
  std::chrono::milliseconds patience() const { return std::chrono::milliseconds(context().patience_ms); }

  // A call that must work; its reply.
  Json Call(const std::string& rpc, const Json& request = Json::object());
  Result<Json> Try(const std::string& rpc, const Json& request = Json::object());
  // A call that must fail, and its message; any of `codes` (none given: any but UNAVAILABLE, UNIMPLEMENTED and
  // DEADLINE_EXCEEDED).
  std::string MustFail(const std::string& rpc, const Json& request, const std::vector<Code>& codes = {});
  void AwaitRuntime();  // after a restart
  // Skips the spec when the runtime does not know the call.
  void Needs(const std::string& rpc, const Json& request = Json::object());

  // A reference to the suite's image; pulled by Image, only named by ImageName.
  std::string ImageName(const std::string& name, const std::string& tag = "latest") const;
  std::string Image(const std::string& name, const std::string& tag = "latest");
  void RemoveImageAtEnd(const std::string& reference) { pulled_.push_back(reference); }  // if it is this spec's alone

  // Configurations are merged: objects by member, everything else replaced.
  Json PodConfig(const Json& more = Json::object());
  Pod RunPod(const Json& more = Json::object());
  Pod RunPodWith(const Json& config);
  Json ContainerConfig(const Json& more = Json::object());
  std::string Create(const Pod& pod, const Json& more = Json::object());
  Result<std::string> TryCreate(const Pod& pod, const Json& more);
  std::string Start(const std::string& container);
  std::string Run(const Pod& pod, const Json& more = Json::object()) { return Start(Create(pod, more)); }
  // Creates, or fails with a Failure, or starts and must fail: for what a runtime may refuse at either step.
  void MustNotRun(const Pod& pod, const Json& more);
  void Stop(const std::string& container, int seconds = 0);
  void Remove(const std::string& container);
  Json Status(const std::string& container);
  Json PodStatus(const std::string& pod);
  Json WaitExited(const std::string& container);
  ExecResult Exec(const std::string& container, const std::vector<std::string>& command, int timeout = 60);
  // Output of a shell script that must end with 0.
  std::string Sh(const std::string& container, const std::string& script);

  std::vector<LogLine> Log(const Pod& pod, const std::string& path = "main.log");
  std::string LogText(const Pod& pod, const std::string& path = "main.log", const std::string& stream = "stdout");
  std::string WaitLog(const Pod& pod, const std::string& text, const std::string& path = "main.log");

  // Polls until `probe` is true. For states that no event tells about; the bound is for what never comes.
  void Eventually(const std::string& what, const std::function<bool()>& probe);
  // A directory of the spec's own, gone afterwards.
  std::string TempDir();
  // Runs at the end, the last one first.
  void AtEnd(std::function<void()> action) { at_end_.push_back(std::move(action)); }
  std::string Unique(const std::string& prefix = "");

 private:
  std::string CgroupParent();
  void RemoveEverything();

  std::string run_ = Unique();
  int serial_ = 0;
  std::vector<std::function<void()>> at_end_;
  std::vector<std::string> pulled_, temp_dirs_;
};

Json Merged(Json base, const Json& more);
// Whether a reply's list has an object with this id.
bool IsListed(const Json& list, const std::string& id);

namespace internal {
bool Register(SpecInfo info, testing::internal::TestFactoryBase* factory);
}  // namespace internal

#define SPEC(group_, name_, ...)                                                              \
  class group_##_##name_ : public ::crisp::conformance::Spec {                                \
   protected:                                                                                 \
    void Body() override;                                                                     \
  };                                                                                          \
  static const bool registered_##group_##_##name_ = ::crisp::conformance::internal::Register( \
      {#group_, #name_, __FILE__, __LINE__, ::crisp::conformance::SpecOptions{__VA_ARGS__}},  \
      new ::testing::internal::TestFactoryImpl<group_##_##name_>);                            \
  void group_##_##name_::Body()

}  // namespace crisp::conformance
