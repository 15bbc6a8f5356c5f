// Stand-ins that behave: a manager that keeps pods and containers in maps and follows the contract of pod/manager.h
// (unknown ids, states, filters), and image, network, runtime and cgroup parts with just enough life for the services.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>

#include "base/strings.h"
#include "base/synchronized.h"
#include "base/time.h"
#include "cgroup/cgroup.h"
#include "cri/streams.h"
#include "image/service.h"
#include "network/network.h"
#include "pod/manager.h"
#include "runtime/runtime.h"

namespace crisp::cri {

inline bool HasLabels(const spec::StringMap& labels, const spec::StringMap& wanted) {
  return std::ranges::all_of(wanted, [&](const auto& w) {
    auto found = labels.find(w.first);
    return found != labels.end() && found->second == w.second;
  });
}

class FakeManager : public pod::Manager {
 public:
  std::vector<pod::CallTiming> Timings(const std::string&) const override { return {}; }
  Result<> Recover(const Ctx&) override { return {}; }
  void Sweep(const Ctx&) override {}

  Result<PodId> RunSandbox(const Ctx&, const spec::SandboxConfig& config) override {
    auto state = state_.Lock();
    pod::SandboxStatus status;
    status.id = PodId::Random();
    status.config = config;
    status.state = pod::SandboxState::kReady;
    status.created_at = UnixNanosNow();
    status.ips = {"10.0.0.2", "fd00::2"};
    PodId id = status.id;
    state->sandboxes[id.str()] = status;
    return id;
  }
  Result<> StopSandbox(const Ctx& ctx, const std::string& id) override {
    if (id == "hangs") return Sleep(ctx);
    auto state = state_.Lock();
    auto found = state->sandboxes.find(id);
    if (found != state->sandboxes.end()) found->second.state = pod::SandboxState::kNotReady;
    return {};
  }
  Result<> RemoveSandbox(const Ctx&, const std::string& id) override {
    state_.Lock()->sandboxes.erase(id);
    return {};
  }
  Result<ContainerId> CreateContainer(const Ctx&, const std::string& pod,
                                      const spec::ContainerConfig& config) override {
    auto state = state_.Lock();
    auto sandbox = state->sandboxes.find(pod);
    if (sandbox == state->sandboxes.end()) return Error(Code::kNotFound, "pod sandbox " + pod + " not found");
    pod::ContainerStatus status;
    status.id = ContainerId::Random();
    status.pod = sandbox->second.id;
    status.config = config;
    status.created_at = UnixNanosNow();
    status.image_id = "sha256:" + std::string(64, 'a');
    status.resources = config.resources;
    status.user = spec::ContainerUser{.uid = 7, .gid = 8, .supplemental_groups = {8, 9}};
    ContainerId id = status.id;
    state->containers[id.str()] = status;
    return id;
  }
  Result<> StartContainer(const Ctx&, const std::string& id) override {
    return Change(id, [](pod::ContainerStatus& status) {
      status.state = pod::ContainerState::kRunning;
      status.cgroup_path = "/busy";
    });
  }
  Result<> StopContainer(const Ctx& ctx, const std::string& id, std::chrono::seconds grace) override {
    if (grace >= std::chrono::hours(1)) return Sleep(ctx);
    (void)Change(id, [](pod::ContainerStatus& status) { status.state = pod::ContainerState::kExited; });
    return {};
  }
  Result<> RemoveContainer(const Ctx&, const std::string& id) override {
    state_.Lock()->containers.erase(id);
    return {};
  }
  Result<> UpdateResources(const Ctx&, const std::string& id, const spec::Resources& resources,
                           const spec::StringMap&) override {
    return Change(id, [&](pod::ContainerStatus& status) { status.resources = resources; });
  }
  Result<> AdjustResources(const Ctx&, const std::string& id, const std::string&) override {
    return Change(id, [](pod::ContainerStatus&) {});
  }
  Result<> UpdateSandboxResources(const Ctx&, const std::string& id, const pod::SandboxResources& update) override {
    auto state = state_.Lock();
    auto found = state->sandboxes.find(id);
    if (found == state->sandboxes.end()) return Error(Code::kNotFound, "pod sandbox " + id + " not found");
    if (update.overhead) found->second.overhead = *update.overhead;
    if (update.resources) found->second.resources = *update.resources;
    return {};
  }
  Result<> ReopenLog(const Ctx&, const std::string& id) override {
    return Change(id, [](pod::ContainerStatus&) {});
  }
  // `cmd` is taken for what it says: "echo X", "sleep" (until the timeout or the caller's end), "false".
  Result<pod::ExecOutput> ExecSync(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                                   std::chrono::seconds timeout) override {
    TRY(Change(id, [](pod::ContainerStatus&) {}));
    if (after_exec) ctx.Afterwards(after_exec);
    if (cmd[0] == "echo") return pod::ExecOutput{.out = cmd[1] + "\n", .err = {}, .exit_code = 0};
    if (cmd[0] == "false") return pod::ExecOutput{.out = {}, .err = "no\n", .exit_code = 1};
    Ctx bounded = timeout.count() > 0 ? ctx.WithTimeout(timeout) : ctx;
    return Sleep(bounded).error();
  }
  Result<> CheckExec(const std::string& id, const pod::StreamWants&) const override { return CheckThere(id); }
  Result<> CheckAttach(const std::string& id, const pod::StreamWants&) const override { return CheckThere(id); }
  Result<> CheckPortForward(const std::string& pod_id) const override {
    TRY(GetSandbox(pod_id));
    return {};
  }
  Result<pod::StreamSessionPtr> OpenExec(const Ctx&, const std::string&, const std::vector<std::string>&,
                                         const pod::StreamWants&) override {
    return Error(Code::kUnimplemented, "no exec here");
  }
  Result<pod::StreamSessionPtr> OpenAttach(const Ctx&, const std::string&, const pod::StreamWants&) override {
    return Error(Code::kUnimplemented, "no attach here");
  }
  Result<sys::UniqueFd> DialPod(const Ctx&, const std::string&, uint16_t) override {
    return Error(Code::kUnimplemented, "no network here");
  }
  Result<> CheckpointContainer(const Ctx&, const std::string& id, const std::string& location,
                               std::chrono::seconds timeout) override {
    TRY(Change(id, [](pod::ContainerStatus&) {}));
    checkpointed = StrCat(location, " ", timeout.count());
    return {};
  }
  Result<> CheckpointPod(const Ctx&, const std::string& id, const std::string& dir,
                         const std::vector<std::string>& containers) override {
    TRY(GetSandbox(id));
    checkpointed = StrCat(dir, " ", Join(containers, ","));
    return {};
  }
  Result<pod::RestoredPod> RestorePod(const Ctx& ctx, const std::string& dir, const spec::SandboxConfig& config,
                                      const std::vector<spec::ContainerConfig>& containers) override {
    if (dir == "/nothing") return Error(Code::kInvalidArgument, "no checkpoint in /nothing");
    pod::RestoredPod restored{TRY(RunSandbox(ctx, config)), {}};
    for (const spec::ContainerConfig& each : containers) {
      restored.containers.emplace_back(each.metadata.name, TRY(CreateContainer(ctx, restored.pod.str(), each)));
    }
    return restored;
  }
  Result<pod::SandboxRef> GetSandbox(const std::string& id) const override {
    auto state = state_.Lock();
    auto found = state->sandboxes.find(id);
    if (found == state->sandboxes.end()) return Error(Code::kNotFound, "pod sandbox " + id + " not found");
    return std::make_shared<const pod::SandboxStatus>(found->second);
  }
  Result<pod::ContainerRef> GetContainer(const std::string& id) const override {
    auto state = state_.Lock();
    auto found = state->containers.find(id);
    if (found == state->containers.end()) return Error(Code::kNotFound, "container " + id + " not found");
    return std::make_shared<const pod::ContainerStatus>(found->second);
  }
  Result<> CheckThere(const std::string& id) const {
    TRY(GetContainer(id));
    return {};
  }
  pod::SandboxList ListSandboxes(const pod::SandboxFilter& filter) const override {
    auto state = state_.Lock();
    std::vector<pod::SandboxRef> out;
    for (const auto& [id, status] : state->sandboxes) {
      if (!filter.id.empty() && id != filter.id) continue;
      if (filter.state && *filter.state != status.state) continue;
      if (!HasLabels(status.config.labels, filter.labels)) continue;
      out.push_back(std::make_shared<const pod::SandboxStatus>(status));
    }
    return {std::move(out), filter.id.empty() && !filter.state && filter.labels.empty()};
  }
  pod::ContainerList ListContainers(const pod::ContainerFilter& filter) const override {
    auto state = state_.Lock();
    std::vector<pod::ContainerRef> out;
    for (const auto& [id, status] : state->containers) {
      if (!filter.id.empty() && id != filter.id) continue;
      if (!filter.pod.empty() && status.pod.str() != filter.pod) continue;
      if (filter.state && *filter.state != status.state) continue;
      if (!HasLabels(status.config.labels, filter.labels)) continue;
      out.push_back(std::make_shared<const pod::ContainerStatus>(status));
    }
    return {std::move(out), filter.id.empty() && filter.pod.empty() && !filter.state && filter.labels.empty()};
  }

  Result<pod::PodSnapshot> GetPod(const std::string& id) const override {
    pod::PodSnapshot out;
    out.sandbox = TRY(GetSandbox(id));
    pod::ContainerList containers = ListContainers({.id = {}, .pod = id, .state = {}, .labels = {}});
    out.containers.assign(containers.begin(), containers.end());
    out.at = UnixNanosNow();
    return out;
  }
  std::shared_ptr<pod::Watcher> Watch(size_t events_max, std::function<void()> wake) override {
    return feed.Watch(events_max, std::move(wake));
  }

  pod::Feed feed;  // a test publishes what it wants to be told
  std::atomic<int> sleeping{0};
  std::function<void()> after_exec;  // what ExecSync leaves for after its answer
  std::string checkpointed;  // what the last checkpoint was asked for

 private:
  // Until ctx ends; always an error.
  Result<> Sleep(const Ctx& ctx) {
    std::mutex mutex;
    std::condition_variable_any ended;
    std::unique_lock lock(mutex);
    ++sleeping;
    if (ctx.deadline() == Clock::time_point::max()) {
      ended.wait(lock, ctx.stop(), [] { return false; });
    } else {
      ended.wait_until(lock, ctx.stop(), ctx.deadline(), [] { return false; });
    }
    --sleeping;
    return ctx.Check() ? Error(Code::kInternal, "woke up too early") : std::move(ctx.Check()).error();
  }
  template <class F>
  Result<> Change(const std::string& id, F change) {
    auto state = state_.Lock();
    auto found = state->containers.find(id);
    if (found == state->containers.end()) return Error(Code::kNotFound, "container " + id + " not found");
    change(found->second);
    return {};
  }
  struct State {
    std::map<std::string, pod::SandboxStatus> sandboxes;
    std::map<std::string, pod::ContainerStatus> containers;
  };
  Synchronized<State> state_;
};

class FakeImages : public image::Service {
 public:
  Result<image::ImageRef> Pull(const Ctx& ctx, const std::string& reference, const image::Credentials& credentials,
                               const ProgressFn& progress, const std::string& pod_namespace,
                               const std::string& runtime_handler) override {
    TRY(ctx.Check());
    if (reference.find("unsigned") != std::string::npos && pod_namespace != "lax") {
      return Error(Code::kPermissionDenied, "SignatureValidationFailed: " + reference);
    }
    if (reference.find("down") != std::string::npos) {
      return Error(Code::kUnavailable, "RegistryUnavailable: no connection");
    }
    if (reference.find("missing") != std::string::npos) return Error(Code::kNotFound, reference + " is not there");
    if (reference.find("private") != std::string::npos && credentials.password != "open sesame") {
      return Error(Code::kUnauthenticated, reference + ": the registry wants credentials");
    }
    if (progress) progress({{.layer = "sha256:1", .bytes_done = 5, .bytes_total = 5}});
    auto image = std::make_shared<image::Image>();
    image->id = "sha256:" + std::string(64, 'a');
    image->repo_tags = {reference};
    image->runtime_handlers = {runtime_handler};
    image->size_bytes = 1234;
    image->config.user = "1002:5";
    image->platform = "linux/amd64";
    image_.Lock()->operator=(image);
    return image::ImageRef(image);
  }
  Result<image::ImageRef> Find(const std::string& reference) const override {
    auto image = image_.Lock();
    if (*image && ((*image)->id == reference || (*image)->repo_tags[0] == reference)) return *image;
    return image::ImageRef();
  }
  Result<> CheckAllowed(const Ctx&, const image::Image&, const std::string&, const std::string&) const override {
    return {};
  }
  std::vector<image::ImageRef> List() const override {
    auto image = image_.Lock();
    if (!*image) return {};
    return {*image};
  }
  Result<> Remove(const std::string&, const std::string&) override {
    image_.Lock()->reset();
    return {};
  }
  Result<> Untag(const std::string&) override { return {}; }
  Result<> Lease(const std::string&, const std::string&) override { return {}; }
  Result<> Release(const std::string&) override { return {}; }
  Result<> KeepOnly(const std::function<bool(const std::string&)>&) override { return {}; }
  Result<std::vector<image::ImageRef>> Import(const Ctx&, const std::string& path, const std::string&) override {
    return Error(Code::kNotFound, path);
  }
  Result<> Export(const Ctx&, const std::string& reference, const std::string&) override {
    return Error(Code::kNotFound, reference);
  }
  Result<image::FsUsage> Usage() const override {
    return image::FsUsage{.mountpoint = "/", .used_bytes = 42, .inodes_used = 7};
  }

 private:
  Synchronized<image::ImageRef> image_;
};

class FakeNetwork : public network::Network {
 public:
  Result<network::PodNetwork> Setup(const Ctx&, const network::PodNetworkRequest&) override {
    return network::PodNetwork();
  }
  Result<network::PodNetwork> Get(const PodId&) const override { return network::PodNetwork(); }
  Result<> Teardown(const Ctx&, const PodId&) override { return {}; }
  Result<int> KeepOnly(const Ctx&, const std::function<bool(const PodId&)>&) override { return 0; }
  Result<> AfterReboot(const Ctx&) override { return {}; }
  network::NetworkStatus Status() const override {
    return {.ready = false, .reason = "NetworkPluginNotReady", .message = "no network in /nowhere"};
  }
  Result<> SetPodCidr(const std::string& cidr) override {
    if (cidr.find('/') == std::string::npos) return Error(Code::kInvalidArgument, cidr + " is no subnet");
    pod_cidr = cidr;
    return {};
  }
  std::string pod_cidr;
};

class FakeRuntime : public runtime::Runtime {
 public:
  bool IsNative(const std::string&) const override { return false; }
  bool HasHandler(const std::string& name) const override { return name == "runc" || name == "crun"; }
  std::vector<std::pair<std::string, runtime::HandlerFeatures>> Handlers() const override {
    return {{"runc", {.recursive_read_only_mounts = true}}, {"crun", {}}};
  }
  Result<sys::OwnedNamespaces> MakeUserns(const Ctx&, const sys::UsernsRequest&) override { return Never(); }
  Result<std::unique_ptr<sys::IdleProcess>> MakeIdle() override { return Never(); }
  Result<runtime::PodNamespaces> StartPod(const Ctx&, const runtime::PodSpec&) override { return Never(); }
  Result<runtime::PodNamespaces> ReconnectPod(const Ctx&, const PodId&, const std::string&) override { return Never(); }
  Result<> StopPod(const Ctx&, const PodId&, const std::string&) override { return Never(); }
  Result<runtime::PreparedStart> PrepareStart(const PodId&, const runtime::ContainerSpec&,
                                              const std::function<Result<>()>&) override {
    return Never();
  }
  Result<> EndBegun(const Ctx&, const PodId&, const ContainerId&) override { return Never(); }
  Result<runtime::Started> StartContainer(const Ctx&, const PodId&, const runtime::ContainerSpec&) override {
    return Never();
  }
  Result<> Signal(const Ctx&, const PodId&, const ContainerId&, int) override { return Never(); }
  Result<> DeleteContainer(const Ctx&, const PodId&, const ContainerId&, const std::string&, const std::string&) override {
    return Never();
  }
  Result<> UpdateContainer(const Ctx&, const ContainerId&, const std::string&, const std::string&) override {
    return Never();
  }
  Result<> ReopenLog(const Ctx&, const PodId&, const ContainerId&) override { return Never(); }
  Result<> CanCheckpoint(const Ctx&, const std::string&) override { return Never(); }
  Result<> PauseContainer(const Ctx&, const ContainerId&, const std::string&) override { return Never(); }
  Result<> ResumeContainer(const Ctx&, const ContainerId&, const std::string&) override { return Never(); }
  Result<> CheckpointContainer(const Ctx&, const runtime::CheckpointSpec&) override {
    return Never();
  }
  Result<runtime::ExecSyncResult> ExecSync(const Ctx&, const PodId&, const ContainerId&, const std::string&,
                                           const runtime::ExecSpec&, std::chrono::seconds, size_t) override {
    return Never();
  }
  Result<std::unique_ptr<runtime::StreamSession>> OpenExec(const Ctx&, const PodId&, const ContainerId&,
                                                           const std::string&, const runtime::ExecSpec&,
                                                           const runtime::StreamWants&) override {
    return Error(Code::kUnimplemented, "no exec here");
  }
  Result<std::unique_ptr<runtime::StreamSession>> OpenAttach(const Ctx&, const PodId&, const ContainerId&,
                                                             const runtime::StreamWants&) override {
    return Error(Code::kUnimplemented, "no attach here");
  }

 private:
  static Error Never() { return Error(Code::kInternal, "the services do not call this"); }
};

class FakeStreams : public Streams {
 public:
  Result<std::string> ExecUrl(const std::string& container, const std::vector<std::string>& cmd,
                              const pod::StreamWants& wants) override {
    return StrCat("exec ", container, " ", Join(cmd, " "), wants.tty ? " tty" : "");
  }
  Result<std::string> AttachUrl(const std::string& container, const pod::StreamWants&) override {
    return "attach " + container;
  }
  Result<std::string> PortForwardUrl(const std::string& pod, const std::vector<uint16_t>& ports) override {
    return StrCat("forward ", pod, " ", ports.size());
  }
};

class FakeCgroups : public cgroup::Cgroups {
 public:
  bool unified() const override { return false; }
  cgroup::Driver driver() const override { return cgroup::Driver::kCgroupfs; }
  const std::vector<std::string>& controllers() const override { return none_; }
  Result<cgroup::Location> Place(const std::string& parent, const std::string& name) const override {
    std::string path = (parent.empty() ? "/crisp" : parent) + "/" + name;
    return cgroup::Location{.oci_path = path, .kernel_path = path};
  }
  Result<> Create(const std::string&) override { return {}; }
  const cgroup::Layout& layout() const override { return layout_; }
  Result<> CreateForContainer(const std::string&, std::string_view) override { return {}; }
  Result<> CreateScope(const Ctx&, const std::string& path, std::string_view resources, pid_t) override {
    return CreateForContainer(path, resources);
  }
  Result<> UpdateResources(const std::string&, std::string_view) override { return {}; }
  Directories DirectoriesOf(const std::string&) const override { return {}; }
  Result<> Freeze(const Ctx&, const std::string&, bool) override { return {}; }
  Result<> SetLimits(const std::string&, const cgroup::Limits&) override { return {}; }
  Result<> Remove(const Ctx&, const std::string&) override { return {}; }
  Result<> Kill(const Ctx&, const std::string&) override { return {}; }
  Result<std::vector<pid_t>> Processes(const std::string&) const override { return std::vector<pid_t>(); }
  Result<cgroup::Usage> Read(const std::string& kernel_path) const override {
    ++reads;
    if (kernel_path != "/busy") return Error(Code::kNotFound, "cgroup " + kernel_path + " not found");
    cgroup::Usage usage;
    usage.at_unix_nanos = 1'000'000'000'000;
    usage.cpu_nanos = 5'000'000;
    usage.working_set_bytes = 4096;
    usage.processes = 3;
    return usage;
  }
  Result<cgroup::Details> ReadDetails(const std::string& kernel_path) const override {
    cgroup::Details out = details;
    out.usage = TRY(Read(kernel_path));
    return out;
  }
  std::vector<std::string> OomEventFiles(const std::string&) const override { return {}; }
  std::vector<std::string> HugepageSizes() const override { return {}; }
  bool HasController(const std::string&) const override { return false; }
  bool SwapAccounting() const override { return false; }

  mutable std::atomic<int> reads{0};
  cgroup::Details details;  // of every busy cgroup

 private:
  std::vector<std::string> none_;
  cgroup::Layout layout_;
};

}  // namespace crisp::cri
