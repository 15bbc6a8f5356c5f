#include "conformance/spec.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <thread>

#include "base/check.h"
#include "base/ids.h"
#include "base/strings.h"
#include "codec/cri_log.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr const char* kLabel = "crisptest/spec";
constexpr auto kPollInterval = milliseconds(10);
constexpr auto kCleanUpTimeout = milliseconds(30'000);

std::vector<SpecInfo>& Specs() {
  static std::vector<SpecInfo> specs;
  return specs;
}

const Context* g_context = nullptr;
Cri* g_cri = nullptr;     // what specs talk to
Cri* g_direct = nullptr;  // the runtime itself: clean-up must work when calls are broken on purpose

std::string Text(const Error& error) { return StrCat(CodeName(error.code()), ": ", error.message()); }

}  // namespace

const std::vector<SpecInfo>& AllSpecs() { return Specs(); }

void UseContext(const Context& context, Cri& cri, Cri& direct) {
  g_context = &context;
  g_cri = &cri;
  g_direct = &direct;
}

bool internal::Register(SpecInfo info, testing::internal::TestFactoryBase* factory) {
  // GoogleTest owns what makes the test, and that the factory: a leak would be reported in the process of each spec.
  auto owned = std::shared_ptr<testing::internal::TestFactoryBase>(factory);
  testing::RegisterTest(info.group.c_str(), info.name.c_str(), nullptr, nullptr, info.file.c_str(), info.line,
                        [owned]() -> Spec* { return static_cast<Spec*>(owned->CreateTest()); });
  Specs().push_back(std::move(info));
  return true;
}

bool IsListed(const Json& list, const std::string& id) {
  for (const Json& one : list) {
    if (one.at("id") == id) return true;
  }
  return false;
}

Json Merged(Json base, const Json& more) {
  if (!base.is_object() || !more.is_object()) return more;
  for (const auto& [key, value] : more.items()) base[key] = base.contains(key) ? Merged(base[key], value) : value;
  return base;
}

const Context& Spec::context() const { return *g_context; }
Cri& Spec::cri() const { return *g_cri; }

void Spec::TestBody() {
  try {
    Body();
  } catch (const Failure& failure) {
    ADD_FAILURE() << failure.what();
  } catch (const Unsupported& reason) {
    GTEST_SKIP() << reason.what();
  } catch (const nlohmann::json::exception& error) {  // a reply without what the spec reads
    ADD_FAILURE() << "the reply is not as expected: " << error.what();
  }
}

void Spec::TearDown() {
  for (auto action = at_end_.rbegin(); action != at_end_.rend(); ++action) (*action)();
  RemoveEverything();
  for (const std::string& path : temp_dirs_) (void)sys::RemoveTree(path);  // containers may have held them
}

void Spec::AwaitRuntime() {
  for (Cri* one : {g_cri, g_direct}) {
    // The first call after a restart finds out that its connection is none any more.
    Eventually("the runtime answers", [&] { return one->Call("Version", Json::object()).has_value(); });
  }
}

void Spec::RemoveEverything() {
  auto call = [](const char* rpc, const Json& request) {
    auto reply = g_direct->Call(rpc, request, kCleanUpTimeout);
    if (!reply) std::fprintf(stderr, "clean-up: %s: %s\n", rpc, Text(reply.error()).c_str());
    return reply ? *std::move(reply) : Json::object();
  };
  const Json filter = {{"filter", {{"label_selector", {{kLabel, run_}}}}}};
  // A restart may have left the connection broken: that is found out by the first call.
  if (!g_direct->Call("Version", Json::object(), kCleanUpTimeout)) (void)call("Version", Json::object());
  Json containers = call("ListContainers", filter), pods = call("ListPodSandbox", filter);
  for (const Json& container : containers.value("containers", Json::array())) {
    call("StopContainer", {{"container_id", container["id"]}, {"timeout", 0}});
    call("RemoveContainer", {{"container_id", container["id"]}});
  }
  for (const Json& pod : pods.value("items", Json::array())) {
    call("StopPodSandbox", {{"pod_sandbox_id", pod["id"]}});
    call("RemovePodSandbox", {{"pod_sandbox_id", pod["id"]}});
  }
  for (const std::string& image : pulled_) {
    // Images that specs share stay until the end of the run.
    bool own = false;
    for (const char* family : {"/small/", "/tags/", "/private/"}) own = own || image.find(family) != std::string::npos;
    if (!own) continue;
    (void)g_direct->Call("RemoveImage", {{"image", {{"image", image}}}}, kCleanUpTimeout);
  }
}

Result<Json> Spec::Try(const std::string& rpc, const Json& request) { return cri().Call(rpc, request); }

Json Spec::Call(const std::string& rpc, const Json& request) {
  auto reply = Try(rpc, request);
  if (!reply) throw Failure(StrCat(rpc, ": ", Text(reply.error())));
  return *std::move(reply);
}

std::string Spec::MustFail(const std::string& rpc, const Json& request, const std::vector<Code>& codes) {
  auto reply = Try(rpc, request);
  if (reply) throw Failure(StrCat(rpc, " should have failed and did not: ", DumpJson(*reply)));
  Error error = reply.error();
  bool expected = codes.empty() && error.code() != Code::kUnavailable && error.code() != Code::kUnimplemented &&
                  error.code() != Code::kDeadlineExceeded;
  for (Code code : codes) expected = expected || code == error.code();
  if (!expected) throw Failure(StrCat(rpc, " failed, but not as it should have: ", Text(error)));
  return error.message();
}

void Spec::Needs(const std::string& rpc, const Json& request) {
  auto reply = g_direct->Call(rpc, request);
  if (!reply && reply.error().code() == Code::kUnimplemented)
    throw Unsupported(StrCat("the runtime does not have ", rpc));
}

std::string Spec::ImageName(const std::string& name, const std::string& tag) const {
  if (auto other = context().images.find(name); other != context().images.end()) {
    return StrCat(context().registry_prefix, context().registry_prefix.empty() ? "" : "/", other->second);
  }
  return StrCat(context().registry_host, "/crisptest/", name, tag.starts_with("@") || tag.empty() ? "" : ":", tag);
}

std::string Spec::Image(const std::string& name, const std::string& tag) {
  std::string reference = ImageName(name, tag);
  RemoveImageAtEnd(reference);
  Call("PullImage", {{"image", {{"image", reference}}}});
  return reference;
}

std::string Spec::CgroupParent() {
  if (!context().cgroup_parent.empty()) return context().cgroup_parent;
  auto config = g_direct->Call("RuntimeConfig", Json::object());
  bool systemd = config && config->contains("linux") && (*config)["linux"]["cgroup_driver"] == "SYSTEMD";
  return systemd ? "crisptest.slice" : "/crisptest";
}

std::string Spec::Unique(const std::string& prefix) { return StrCat(prefix, RandomHex(4)); }

Json Spec::PodConfig(const Json& more) {
  std::string name = Unique("pod-"), log_dir = TempDir();
  return Merged({{"metadata", {{"name", name}, {"uid", Unique("uid-")}, {"namespace", Unique("ns-")}, {"attempt", 2}}},
                 {"log_directory", log_dir},
                 {"labels", {{kLabel, run_}}},
                 {"linux", {{"cgroup_parent", CgroupParent()}, {"security_context", Json::object()}}}},
                more);
}

Pod Spec::RunPodWith(const Json& config) {
  Json reply = Call("RunPodSandbox", {{"config", config}, {"runtime_handler", context().runtime_handler}});
  return {reply["pod_sandbox_id"], config, config["log_directory"]};
}

Pod Spec::RunPod(const Json& more) { return RunPodWith(PodConfig(more)); }

Json Spec::ContainerConfig(const Json& more) {
  Json config = Merged({{"metadata", {{"name", "main"}, {"attempt", 1}}},
                        {"command", {"/guest", "hold"}},
                        {"labels", {{kLabel, run_}}},
                        {"log_path", "main.log"},
                        {"linux", {{"security_context", Json::object()}}}},
                       more);
  if (!config.contains("image")) config["image"]["image"] = Image("busybox");
  // What the pod's author wrote, as a kubelet says it too. CRI-O creates nothing without it.
  Json& image = config["image"];
  if (image.is_object() && !image.contains("user_specified_image")) image["user_specified_image"] = image["image"];
  if (config["command"].empty()) config.erase("command");
  return config;
}

Result<std::string> Spec::TryCreate(const Pod& pod, const Json& more) {
  auto reply = Try("CreateContainer",
                   {{"pod_sandbox_id", pod.id}, {"config", ContainerConfig(more)}, {"sandbox_config", pod.config}});
  if (!reply) return reply.error();
  return (*reply)["container_id"].get<std::string>();
}

std::string Spec::Create(const Pod& pod, const Json& more) {
  auto id = TryCreate(pod, more);
  if (!id) throw Failure(StrCat("CreateContainer: ", Text(id.error())));
  if (id->empty()) throw Failure("CreateContainer gave no id");
  return *id;
}

void Spec::MustNotRun(const Pod& pod, const Json& more) {
  auto id = TryCreate(pod, more);
  if (!id) {
    if (id.error().code() == Code::kUnavailable) throw Failure(StrCat("CreateContainer: ", Text(id.error())));
    return;
  }
  if (Try("StartContainer", {{"container_id", *id}}))
    throw Failure("the container was created and started, which it must not");
}

std::string Spec::Start(const std::string& container) {
  Call("StartContainer", {{"container_id", container}});
  return container;
}
void Spec::Stop(const std::string& container, int seconds) {
  Call("StopContainer", {{"container_id", container}, {"timeout", seconds}});
}
void Spec::Remove(const std::string& container) { Call("RemoveContainer", {{"container_id", container}}); }
Json Spec::Status(const std::string& container) {
  return Call("ContainerStatus", {{"container_id", container}}).at("status");
}
Json Spec::PodStatus(const std::string& pod) {
  return Call("PodSandboxStatus", {{"pod_sandbox_id", pod}}).at("status");
}

Json Spec::WaitExited(const std::string& container) {
  Json status;
  Eventually("the container exits", [&] { return (status = Status(container)).at("state") == "CONTAINER_EXITED"; });
  return status;
}

ExecResult Spec::Exec(const std::string& container, const std::vector<std::string>& command, int timeout) {
  Json reply = Call("ExecSync", {{"container_id", container}, {"cmd", command}, {"timeout", timeout}});
  return {reply["stdout"], reply["stderr"], reply["exit_code"]};
}

std::string Spec::Sh(const std::string& container, const std::string& script) {
  ExecResult result = Exec(container, {"/bin/sh", "-c", script});
  if (result.code != 0) {
    throw Failure(
        StrCat("in the container, ", Quote(script), " ended with ", result.code, ": ", result.out, result.err));
  }
  return result.out;
}

std::vector<LogLine> Spec::Log(const Pod& pod, const std::string& path) {
  std::vector<LogLine> lines;
  auto text = sys::ReadFile(StrCat(pod.log_dir, "/", path), 256u << 20);
  if (!text) return lines;
  for (std::string_view line : Split(*text, '\n')) {
    if (line.empty()) continue;
    auto record = codec::ParseCriLogRecord(line);
    if (!record) throw Failure(StrCat("not a line of a CRI log: ", Quote(line)));
    lines.push_back({record->stream == codec::LogStream::kStdout ? "stdout" : "stderr", std::string(record->text),
                     record->partial});
  }
  return lines;
}

std::string Spec::LogText(const Pod& pod, const std::string& path, const std::string& stream) {
  std::string text;
  for (const LogLine& line : Log(pod, path)) {
    if (line.stream == stream) text += line.text + (line.partial ? "" : "\n");
  }
  return text;
}

std::string Spec::WaitLog(const Pod& pod, const std::string& text, const std::string& path) {
  std::string seen;
  auto until = std::chrono::steady_clock::now() + patience();
  while ((seen = LogText(pod, path)).find(text) == std::string::npos) {
    if (std::chrono::steady_clock::now() > until) {
      throw Failure(StrCat("the log does not come to hold ", Quote(text), ", but: ", Quote(seen)));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  return seen;
}

void Spec::Eventually(const std::string& what, const std::function<bool()>& probe) {
  auto until = std::chrono::steady_clock::now() + patience();
  while (!probe()) {
    if (std::chrono::steady_clock::now() > until) {
      throw Failure(StrCat("not within ", patience().count() / 1000, " s: ", what));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

std::string Spec::TempDir() {
  std::string path = StrCat(context().work_dir, "/crisptest-XXXXXX");
  CHECK(mkdtemp(path.data()) != nullptr);
  chmod(path.c_str(), 0755);
  temp_dirs_.push_back(path);
  return path;
}

}  // namespace crisp::conformance
