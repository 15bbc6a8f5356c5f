#include "pod/testing/world.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "cgroup/place.h"
#include "sys/file.h"

namespace crisp::pod::testing {

namespace fs = std::filesystem;

namespace {

constexpr const char* kKinds[] = {"leases", "networks", "shims", "processes", "oci", "cgroups", "mounts", "paused", "begun"};

std::string Escape(std::string path) {
  std::replace(path.begin(), path.end(), '/', '%');
  return path;
}

// CRIU's images of one process in namespaces of its own, as far as anybody looks into them.
Result<> WriteImages(const std::string& dir, const std::string& memory) {
  auto image = [](std::string_view magics, std::string_view entry) {
    return StrCat(magics, std::string{static_cast<char>(entry.size()), 0, 0, 0}, entry);
  };
  using namespace std::string_view_literals;
  for (const auto& [name, bytes] : {
           std::pair("inventory.img",
                     image("\x40\x59\x10\x55\x16\x31\x31\x58"sv, "\x1a\x0a\x28\1\x30\1\x38\1\x40\1\x48\1"sv)),
           std::pair("pstree.img", image("\x19\x43\x56\x54\x30\x30\x27\x50"sv, "\x08\1"sv)),
           std::pair("ids-1.img", image("\x19\x43\x56\x54\x30\x20\x43\x54"sv, "\x28\2\x30\2\x38\2\x40\2\x48\2"sv)),
           std::pair("pages-1.img", memory),
       }) {
    TRY(sys::WriteFileAtomic(StrCat(dir, "/", name), bytes, 0600, sys::Durability::kNone));
  }
  return {};
}

template <class T>
void Must(const Result<T>& result) {
  if (!result) std::fprintf(stderr, "world: %s\n", result.error().message().c_str());
  CHECK(result.has_value());
}

// Counts one down; true while there was one.
bool Take(int& count) { return count > 0 && count-- > 0; }

void Call(const std::function<void()>& hook) {
  if (hook) hook();
}

}  // namespace

World::World(std::string dir) : dir_(std::move(dir)) {
  for (const char* kind : kKinds) Must(sys::MakeDirs(Dir(StrCat("world/", kind)), 0755));
  for (const char* name : {"root", "state", "logs"}) Must(sys::MakeDirs(Dir(name), 0755));
  if (!sys::Exists(Dir("world/boot_id"))) Reboot();
}

void World::Put(const std::string& kind, const std::string& name, const std::string& content) {
  Must(sys::WriteFileAtomic(Dir(StrCat("world/", kind, "/", Escape(name))), content, 0600, sys::Durability::kNone));
}
void World::Remove(const std::string& kind, const std::string& name) {
  Must(sys::RemoveFile(Dir(StrCat("world/", kind, "/", Escape(name)))));
}
bool World::Has(const std::string& kind, const std::string& name) const {
  return sys::Exists(Dir(StrCat("world/", kind, "/", Escape(name))));
}
std::string World::Get(const std::string& kind, const std::string& name) const {
  return sys::ReadFile(Dir(StrCat("world/", kind, "/", Escape(name)))).value_or("");
}

std::vector<std::string> World::Names(const std::string& kind) const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(Dir("world/" + kind))) {
    std::string name = entry.path().filename().string();
    // What Put was writing, beside the verb, when the manager was killed: it is not there yet.
    if (name.find(".tmp-") == std::string::npos) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> World::Left() const {
  std::vector<std::string> left;
  for (const char* kind : kKinds) {
    for (const std::string& name : Names(kind)) left.push_back(StrCat(kind, "/", name));
  }
  for (const char* dir : {"state/pods", "state/containers", "root/containers", "root/removed"}) {
    if (!fs::exists(Dir(dir))) continue;
    for (const auto& entry : fs::directory_iterator(Dir(dir)))
      left.push_back(StrCat(dir, "/", entry.path().filename().string()));
  }
  return left;
}

void World::End(const ContainerId& id, int code, bool oom_killed, bool told) {
  auto guard = ending_.Lock();  // several kill at once
  Result<Json> process = ParseJson(Get("processes", id.str()), "process");
  if (!process) return;
  PodId pod = *PodId::Parse((*process)["pod"].get<std::string>());
  bool shim = Has("shims", pod.str());
  runtime::ContainerExit exit{code, code > 128 ? code - 128 : 0, oom_killed, UnixNanosNow()};
  if (shim && told) {
    std::string dir = Get("shims", pod.str()) + "/exits";
    Must(sys::MakeDirs(dir, 0700));
    std::string text = StrCat(code, " ", oom_killed ? 1 : 0, " ", exit.finished_at_unix_nanos);
    Must(sys::WriteFileAtomic(StrCat(dir, "/", id.str()), text, 0600, sys::Durability::kNone));
  }
  Remove("processes", id.str());
  if (shim && told && events.on_exit) events.on_exit(pod, id, exit);
}

void World::KillInCgroup(const std::string& path) {
  for (const std::string& name : Names("processes")) {
    Result<Json> process = ParseJson(Get("processes", name), "process");
    if (!process || !(*process)["cgroup"].get<std::string>().starts_with(path)) continue;
    bool hangs = faults.Lock()->shim_hangs;
    End(*ContainerId::Parse(name), 137, false, (*process)["what"] != "undead" && !hangs);
  }
}

void World::EndBegunOf(const PodId& pod) {
  for (const std::string& name : Names("begun")) {
    if (Get("begun", name) == pod.str()) Remove("begun", name);
  }
}

void World::KillShim(const PodId& pod) {
  Remove("shims", pod.str());
  EndBegunOf(pod);
  if (events.on_shim_lost) events.on_shim_lost(pod);
}

void World::Reboot() {
  for (const char* kind : {"shims", "processes", "cgroups", "mounts", "begun"}) {
    for (const std::string& name : Names(kind)) Remove(kind, name);
  }
  // OCI runtimes keep their state below /run as well.
  for (const std::string& name : Names("oci")) Remove("oci", name);
  fs::remove_all(Dir("state"));
  Must(sys::MakeDirs(Dir("state"), 0755));
  Must(sys::WriteFileAtomic(Dir("world/boot_id"), RandomHex(8), 0600, sys::Durability::kNone));
}

namespace {

// A process that sends back what it is told ("cat") or has said all it will.
class FakeSession final : public runtime::StreamSession {
 public:
  FakeSession(const runtime::StreamWants& wants, const std::string& says) {
    sys::Pipe pipe = *sys::MakePipe();
    Must(sys::WriteAll(pipe.write, says));
    if (wants.in) fds_.in = std::move(pipe.write);
    if (wants.out) fds_.out = std::move(pipe.read);
  }
  runtime::StreamFds TakeFds() override { return std::move(fds_); }
  Result<> Resize(uint16_t, uint16_t) override { return {}; }
  void OnExit(std::function<void(Result<int>)>) override {}

 private:
  runtime::StreamFds fds_;
};

class FakeRuntime final : public runtime::Runtime {
 public:
  explicit FakeRuntime(World& world) : world_(world) {}

  bool IsNative(const std::string& name) const override { return name == "native"; }
  bool HasHandler(const std::string& name) const override { return name == "runc" || name == "native"; }
  std::vector<std::pair<std::string, runtime::HandlerFeatures>> Handlers() const override {
    return {{"runc", {.recursive_read_only_mounts = true, .user_namespaces = true}}};
  }
  Result<std::unique_ptr<sys::IdleProcess>> MakeIdle() override {
    return Error(Code::kUnimplemented, "only for systemd");
  }
  Result<sys::OwnedNamespaces> MakeUserns(const Ctx&, const sys::UsernsRequest&) override {
    sys::OwnedNamespaces made;  // any descriptor does: nothing of the kernel is asked here
    made.user = TRY(sys::Open("/dev/null", O_RDONLY));
    return made;
  }

  Result<runtime::PodNamespaces> StartPod(const Ctx&, const runtime::PodSpec& spec) override {
    if (Take(world_.faults.Lock()->shim_starts_failing)) return Error(Code::kInternal, "the shim does not start");
    CHECK(sys::Exists(spec.run_dir));
    world_.Put("shims", spec.pod.str(), spec.run_dir);
    Result<std::string> netns = spec.await_netns ? spec.await_netns() : spec.netns_path;
    if (!netns) {
      world_.Remove("shims", spec.pod.str());
      return std::move(netns).error();
    }
    CHECK(netns->empty() || world_.Has("networks", spec.pod.str()));
    ++world_.faults.Lock()->shims_set_up;
    return Namespaces();
  }
  Result<runtime::PodNamespaces> ReconnectPod(const Ctx& ctx, const PodId& pod, const std::string&) override {
    if (!world_.Has("shims", pod.str())) return Error(Code::kNotFound, "no shim");
    while (world_.faults.Lock()->reconnect_hangs) {
      TRY(ctx.Check());
      std::this_thread::yield();
    }
    return Namespaces();
  }
  Result<> StopPod(const Ctx&, const PodId& pod, const std::string&) override {
    for (const std::string& name : world_.Names("processes")) {
      if (PodOf(name) == pod.str()) world_.End(*ContainerId::Parse(name), 137, false, true);
    }
    world_.Remove("shims", pod.str());
    world_.EndBegunOf(pod);
    return {};
  }

  Result<runtime::PreparedStart> PrepareStart(const PodId& pod, const runtime::ContainerSpec& spec,
                                              const std::function<Result<>()>& await_cgroup) override {
    TRY(await_cgroup());
    CHECK(world_.Has("resources", spec.config->at("linux").at("cgroupsPath").get<std::string>()));  // its limits
    runtime::PreparedStart prepared;
    prepared.launch = "launch by " + spec.config->at("linux").at("resources").dump();
    prepared.begun = world_.Has("shims", pod.str());
    if (prepared.begun) world_.Put("begun", spec.id.str(), pod.str());
    return prepared;
  }
  Result<> EndBegun(const Ctx&, const PodId&, const ContainerId& id) override {
    world_.Remove("begun", id.str());
    return {};
  }
  Result<runtime::Started> StartContainer(const Ctx&, const PodId& pod, const runtime::ContainerSpec& spec) override {
    std::function<void()> hook = world_.faults.Lock()->in_start;
    Call(hook);
    if (IsNative(spec.handler)) world_.Put("launches", spec.id.str(), spec.launch);
    if (!world_.Has("shims", pod.str())) return Error(Code::kUnavailable, "no shim");
    world_.Remove("begun", spec.id.str());
    std::string text = TRY(sys::ReadFile(spec.bundle_dir + "/config.json"));
    Json config = TRY(ParseJson(text, "config.json"));
    CHECK(world_.Has("mounts", config["root"]["path"].get<std::string>()));
    std::vector<std::string> args = config["process"]["args"];
    if (!spec.restore_images_dir.empty()) {
      world_.Put("restored", spec.id.str(), TRY(sys::ReadFile(spec.restore_images_dir + "/pages-1.img")));
      args = {"run"};
    }
    if (args[0] == "gibberish") return Error(Code::kUnknown, "no \xff good");
    if (args[0] == "missing") return Error(Code::kUnknown, "exec: \"missing\": executable file not found in $PATH");
    CHECK(!world_.Has("processes", spec.id.str()));  // started twice
    std::string cgroup = config["linux"]["cgroupsPath"];
    world_.Put("oci", spec.id.str());
    world_.Put("cgroups", cgroup);
    world_.Put("processes", spec.id.str(), DumpJson({{"pod", pod.str()}, {"what", args[0]}, {"cgroup", cgroup}}));
    if (args[0] == "exit") world_.End(spec.id, ParseInt<int>(args[1]).value_or(0), false, true);
    if (args[0] == "oom") world_.End(spec.id, 137, true, true);
    return runtime::Started{4711};
  }
  Result<> Signal(const Ctx&, const PodId& pod, const ContainerId& id, int signal) override {
    if (!world_.Has("shims", pod.str())) return Error(Code::kUnavailable, "no shim");
    if (world_.faults.Lock()->shim_hangs) return Error(Code::kDeadlineExceeded, "the shim does not answer");
    std::string what = WhatOf(id.str());
    if (what.empty() || what == "undead" || (what == "stubborn" && signal != SIGKILL)) return {};
    world_.Put("signals", id.str(), StrCat(signal));
    world_.End(id, 128 + signal, false, true);
    return {};
  }
  Result<> DeleteContainer(const Ctx&, const PodId&, const ContainerId& id, const std::string&,
                           const std::string&) override {
    world_.End(id, 137, false, true);
    if (Take(world_.faults.Lock()->deletes_failing)) return Error(Code::kInternal, "runc delete: device busy");
    world_.Remove("oci", id.str());
    return {};
  }
  Result<> UpdateContainer(const Ctx&, const ContainerId& id, const std::string&, const std::string& json) override {
    if (!world_.Has("processes", id.str())) return Error(Code::kNotFound, "container does not exist");
    world_.Put("updates", id.str(), json);
    return {};
  }
  Result<> ReopenLog(const Ctx&, const PodId&, const ContainerId& id) override {
    world_.Put("reopened", id.str());
    return {};
  }
  Result<> CanCheckpoint(const Ctx&, const std::string&) override { return {}; }
  Result<> PauseContainer(const Ctx&, const ContainerId& id, const std::string&) override {
    if (!world_.Has("processes", id.str())) return Error(Code::kNotFound, "container does not exist");
    world_.Put("paused", id.str());
    return {};
  }
  Result<> ResumeContainer(const Ctx&, const ContainerId& id, const std::string&) override {
    world_.Remove("paused", id.str());
    return {};
  }
  Result<> CheckpointContainer(const Ctx&, const runtime::CheckpointSpec& spec) override {
    const auto& [id, dirs] = std::tie(spec.id, spec.dirs);
    CHECK(world_.Has("paused", id.str()));
    if (Take(world_.faults.Lock()->checkpoints_failing)) {
      TRY(sys::WriteFileAtomic(dirs.work + "/dump.log", "(00.1) Error (criu/x.c:1): no such luck\n", 0600,
                               sys::Durability::kNone));
      return Error(Code::kInternal, "criu failed");
    }
    return WriteImages(dirs.images, "memory of " + id.str());
  }
  Result<runtime::ExecSyncResult> ExecSync(const Ctx&, const PodId&, const ContainerId& id, const std::string&,
                                           const runtime::ExecSpec& spec, std::chrono::seconds timeout,
                                           size_t) override {
    if (!world_.Has("processes", id.str())) return Error(Code::kFailedPrecondition, "not running");
    if (spec.cmd[0] == "sleep") {
      return Error(Code::kDeadlineExceeded,
                   StrCat("command ", spec.cmd[0], " timed out after ", timeout.count(), " s"));
    }
    return runtime::ExecSyncResult{TRY(spec.process_json()), "", 3};
  }
  Result<std::unique_ptr<runtime::StreamSession>> OpenExec(const Ctx&, const PodId&, const ContainerId& id,
                                                           const std::string&, const runtime::ExecSpec& spec,
                                                           const runtime::StreamWants& wants) override {
    if (!world_.Has("processes", id.str())) return Error(Code::kFailedPrecondition, "not running");
    return std::make_unique<FakeSession>(wants, TRY(spec.process_json()));
  }
  Result<std::unique_ptr<runtime::StreamSession>> OpenAttach(const Ctx&, const PodId&, const ContainerId& id,
                                                             const runtime::StreamWants& wants) override {
    if (!world_.Has("processes", id.str())) return Error(Code::kFailedPrecondition, "not running");
    return std::make_unique<FakeSession>(wants, "");
  }

 private:
  static runtime::PodNamespaces Namespaces() {
    return {.shim_pid = 4242, .ipc = "/proc/4242/ns/ipc", .pid = "/proc/4243/ns/pid", .user = "/dev/null"};
  }
  std::string PodOf(const std::string& id) const { return Field(id, "pod"); }
  std::string WhatOf(const std::string& id) const { return Field(id, "what"); }
  std::string Field(const std::string& id, const char* key) const {
    Result<Json> process = ParseJson(world_.Get("processes", id), "process");
    return process ? (*process)[key].get<std::string>() : "";
  }
  World& world_;
};

class FakeNetwork final : public network::Network {
 public:
  explicit FakeNetwork(World& world) : world_(world) {}

  Result<network::PodNetwork> Setup(const Ctx&, const network::PodNetworkRequest& request) override {
    std::function<void()> hook = world_.faults.Lock()->in_setup;
    Call(hook);
    if (Take(world_.faults.Lock()->setups_failing)) return Error(Code::kUnavailable, "plugin bridge: no address left");
    world_.Put("networks", request.pod.str(), DumpJson({{"ports", request.port_mappings.size()}}));
    if (request.on_netns) request.on_netns("/netns/" + request.pod.str());
    const bool waits = world_.faults.Lock()->setup_waits_for_shim;  // the runtime wants that lock, too
    if (waits && !ShimComes(request.pod)) {
      return Error(Code::kDeadlineExceeded, "no shim beside the plugins");
    }
    if (Take(world_.faults.Lock()->failing_after_netns))
      return Error(Code::kUnavailable, "plugin bridge: no address left");
    hook = world_.faults.Lock()->after_setup;
    Call(hook);
    return network::PodNetwork{"/netns/" + request.pod.str(), {"10.1.2.3"}, "{\"cniVersion\":\"1.1.0\"}", "eth0"};
  }
  bool ShimComes(const PodId& pod) const {
    for (auto until = Clock::now() + std::chrono::seconds(10); Clock::now() < until; std::this_thread::yield()) {
      if (world_.Has("shims", pod.str())) return true;
    }
    return false;
  }
  Result<network::PodNetwork> Get(const PodId&) const override { return Error(Code::kNotFound, "unused"); }
  Result<> Teardown(const Ctx&, const PodId& pod) override {
    if (Take(world_.faults.Lock()->teardowns_failing)) return Error(Code::kUnavailable, "plugin bridge: DEL failed");
    world_.Remove("networks", pod.str());
    return {};
  }
  Result<int> KeepOnly(const Ctx&, const std::function<bool(const PodId&)>& alive) override {
    for (const std::string& name : world_.Names("networks")) {
      if (!alive(*PodId::Parse(name))) world_.Remove("networks", name);
    }
    return 0;
  }
  Result<> AfterReboot(const Ctx&) override {
    for (const std::string& name : world_.Names("networks")) world_.Remove("networks", name);
    return {};
  }
  network::NetworkStatus Status() const override { return {}; }
  Result<> SetPodCidr(const std::string&) override { return {}; }

 private:
  World& world_;
};

class FakeImages final : public image::Service {
 public:
  explicit FakeImages(World& world) : world_(world) {
    auto image = std::make_shared<image::Image>();
    image->id = "sha256:" + std::string(64, 'b');
    image->repo_tags = {"docker.io/library/busybox:latest"};
    image->repo_digests = {"docker.io/library/busybox@sha256:" + std::string(64, 'd')};
    image->config.cmd = {"run"};
    image->config.volumes = {"/data"};
    image->config.stop_signal = "SIGUSR1";
    image->layer_dirs = {"/layers/1"};
    image_ = image;
    auto checkpoint = std::make_shared<image::Image>(*image);
    checkpoint->id = "sha256:" + std::string(64, 'c');
    checkpoint->repo_tags = {"docker.io/library/checkpointed:latest"};
    checkpoint->checkpoint_of = "main";
    checkpoint->layer_dirs = {world.Dir("checkpoint-layer")};  // a test puts it there
    checkpoint_ = checkpoint;
  }

  Result<image::ImageRef> Pull(const Ctx&, const std::string&, const image::Credentials&, const ProgressFn&,
                               const std::string&, const std::string&) override {
    return image_;
  }
  Result<image::ImageRef> Find(const std::string& reference) const override {
    if (reference == "checkpointed" || reference == checkpoint_->id) return checkpoint_;
    return reference == "busybox" || reference == image_->id || reference == image_->repo_digests[0] ? image_ : nullptr;
  }
  Result<> CheckAllowed(const Ctx&, const image::Image& image, const std::string& reference,
                        const std::string& pod_namespace) const override {
    std::string refused = world_.faults.Lock()->image_refused;
    if (refused != StrCat(image.repo_tags[0], " as ", Quote(reference), " in ", pod_namespace)) return {};
    return Error(Code::kPermissionDenied, "SignatureValidationFailed: not signed");
  }
  std::vector<image::ImageRef> List() const override { return {image_}; }
  Result<> Remove(const std::string&, const std::string&) override { return {}; }
  Result<> Untag(const std::string&) override { return {}; }
  Result<> Lease(const std::string& image_id, const std::string& owner) override {
    world_.Put("leases", owner, image_id);
    return {};
  }
  Result<> Release(const std::string& owner) override {
    world_.Remove("leases", owner);
    return {};
  }
  Result<> KeepOnly(const std::function<bool(const std::string&)>& alive) override {
    for (const std::string& name : world_.Names("leases")) {
      if (!alive(name)) world_.Remove("leases", name);
    }
    return {};
  }
  Result<std::vector<image::ImageRef>> Import(const Ctx&, const std::string&, const std::string&) override {
    return Error(Code::kUnimplemented, "unused");
  }
  Result<> Export(const Ctx&, const std::string&, const std::string&) override { return {}; }
  Result<image::FsUsage> Usage() const override { return image::FsUsage(); }

 private:
  World& world_;
  image::ImageRef image_, checkpoint_;
};

class FakeCgroups final : public cgroup::Cgroups {
 public:
  explicit FakeCgroups(World& world) : world_(world) {}

  bool unified() const override { return true; }
  cgroup::Driver driver() const override { return cgroup::Driver::kCgroupfs; }
  const std::vector<std::string>& controllers() const override { return controllers_; }
  Result<cgroup::Location> Place(const std::string& parent, const std::string& name) const override {
    return cgroup::PlaceFor(driver(), parent, name);
  }
  Result<> Create(const std::string& path) override {
    world_.Put("cgroups", path);
    return {};
  }
  const cgroup::Layout& layout() const override { return layout_; }
  Result<> CreateForContainer(const std::string& path, std::string_view resources) override {
    TRY(Create(path));
    if (Take(world_.faults.Lock()->limits_failing)) {
      world_.Put("resources", path, "some");
      return Error(Code::kInvalidArgument, "refused by the kernel");
    }
    CHECK(!world_.Has("resources", path) || world_.Get("resources", path) == resources);  // what these do not name stays
    return UpdateResources(path, resources);
  }
  Result<> CreateScope(const Ctx&, const std::string& path, std::string_view resources, pid_t) override {
    return CreateForContainer(path, resources);
  }
  Result<> UpdateResources(const std::string& path, std::string_view resources) override {
    world_.Put("resources", path, std::string(resources));
    return {};
  }
  Directories DirectoriesOf(const std::string& path) const override {
    return {.v1 = {}, .v2 = "/sys/fs/cgroup" + path};
  }
  Result<> Freeze(const Ctx&, const std::string&, bool) override { return {}; }
  Result<> SetLimits(const std::string& path, const cgroup::Limits& limits) override {
    TRY(cgroup::CheckOurs(path));
    std::string text =
        StrCat("memory=", limits.memory_bytes, " swap=", limits.memory_swap_bytes, " shares=", limits.cpu_shares,
               " quota=", limits.cpu_quota_micros, "/", limits.cpu_period_micros);
    for (const auto& [size, bytes] : limits.hugepages) text += StrCat(" ", size, "=", bytes);
    world_.Put("limits", path, text);
    return {};
  }
  Result<> Remove(const Ctx& ctx, const std::string& path) override {
    TRY(Kill(ctx, path));
    world_.Remove("limits", path);
    world_.Remove("resources", path);
    std::string escaped = Escape(path);
    for (const std::string& name : world_.Names("cgroups")) {
      if (name == escaped || name.starts_with(escaped + "%")) world_.Remove("cgroups", name);
    }
    return {};
  }
  Result<> Kill(const Ctx&, const std::string& path) override {
    TRY(cgroup::CheckOurs(path));
    CHECK(!world_.Has("begun", path.substr(path.rfind('/') + 1)));  // it is the shim's
    world_.KillInCgroup(path);
    return {};
  }
  Result<std::vector<pid_t>> Processes(const std::string&) const override { return std::vector<pid_t>(); }
  Result<cgroup::Usage> Read(const std::string& kernel_path) const override {
    int64_t used = world_.faults.Lock()->memory_used;
    if (used == 0) return Error(Code::kNotFound, "cgroup " + kernel_path + " not found");
    cgroup::Usage usage;
    usage.working_set_bytes = static_cast<uint64_t>(used);
    return usage;
  }
  Result<cgroup::Details> ReadDetails(const std::string& kernel_path) const override {
    cgroup::Details out;
    out.usage = TRY(Read(kernel_path));
    return out;
  }
  std::vector<std::string> OomEventFiles(const std::string& path) const override { return {path + "/memory.events"}; }
  std::vector<std::string> HugepageSizes() const override { return {"2MB"}; }
  bool HasController(const std::string&) const override { return true; }
  bool SwapAccounting() const override { return true; }

 private:
  cgroup::Layout layout_;
  World& world_;
  std::vector<std::string> controllers_ = {"cpu", "memory", "pids"};
};

class FakeHost final : public Host {
 public:
  explicit FakeHost(World& world) : world_(world) {}

  spec::NodeFacts Facts() override {
    spec::NodeFacts facts;
    facts.hostname = "node";
    facts.resolv_conf = "nameserver 10.0.0.1\n";
    facts.hosts = "127.0.0.1 localhost\n";
    facts.arch = "amd64";
    facts.cgroup_v2 = true;
    facts.cgroup_controllers = {"cpu", "hugetlb", "memory", "pids"};
    facts.hugepage_sizes = {"2MB"};
    facts.swap_accounting = true;
    return facts;
  }
  Result<std::string> BootId() override { return sys::ReadFile(world_.Dir("world/boot_id")); }

  Result<> OpenForUserns(const std::string&, const std::vector<std::string>&, const Owner&) override { return {}; }
  Result<> GiveTo(const std::string&, const Owner&) override { return {}; }
  Result<> MountTmpfs(const std::string& dir, int64_t, mode_t, const Owner&) override {
    TRY(sys::MakeDir(dir, 0700));
    world_.Put("mounts", dir);
    return {};
  }
  Result<> Unmount(const std::string& dir) override {
    world_.Remove("mounts", dir);
    return UnmountBelow(dir + "/");
  }
  Result<> UnmountBelow(const std::string& dir) override {
    for (const std::string& name : world_.Names("mounts")) {
      if (name.starts_with(Escape(dir))) world_.Remove("mounts", name);
    }
    return {};
  }

  Result<> PrepareRootfs(const Ctx&, const rootfs::RootfsSpec& spec) override {
    std::function<void()> hook = world_.faults.Lock()->in_rootfs;
    Call(hook);
    CHECK(!spec.layer_dirs.empty());
    TRY(sys::MakeDirs(spec.container_dir + "/upper", 0755));
    TRY(sys::MakeDir(spec.mount_point, 0700));
    world_.Put("mounts", spec.mount_point);
    return {};
  }
  Result<> UnmountRootfs(const Ctx&, const std::string&, const std::string& mount_point) override {
    return Unmount(mount_point);
  }
  Result<rootfs::User> ResolveUser(const std::string& root, const rootfs::UserRequest& request) override {
    CHECK(world_.Has("mounts", root));
    rootfs::User user;
    user.uid = static_cast<uint32_t>(request.run_as_user.value_or(0));
    user.gid = static_cast<uint32_t>(request.run_as_group.value_or(0));
    user.additional_gids = {user.gid};
    return user;
  }
  Result<> CopyUpVolume(const Ctx&, const std::string&, const std::string&, const std::string& host_dir) override {
    return sys::WriteFileAtomic(host_dir + "/from-image", "x", 0600, sys::Durability::kNone);
  }
  Result<> StageDir(const std::string&, const std::string& target) override {
    TRY(sys::MakeDirs(target, 0700));
    world_.Put("mounts", target);
    return {};
  }
  Result<bool> Relabel(const Ctx&, const spec::MountSource&, const std::string&) override { return true; }
  Result<> Unstage(const std::string& dir) override {
    TRY(UnmountBelow(dir));
    return sys::RemoveTree(dir);
  }
  Result<std::vector<spec::MountSource>> MountSources(const std::vector<spec::Mount>& mounts,
                                                      const MountStaging& staging) override {
    std::function<void()> hook = world_.faults.Lock()->in_mount_sources;
    Call(hook);
    std::vector<spec::MountSource> sources;
    for (const spec::Mount& mount : mounts) sources.push_back({.path = mount.host_path});
    for (size_t i = 0; i < mounts.size(); ++i) {
      if (!staging.mounts[i].stage) continue;
      sources[i].path = StrCat(staging.dir, "/", i);
      sources[i].staged = true;
      TRY(StageDir("", sources[i].path));
    }
    return sources;
  }
  Result<std::vector<spec::DeviceNode>> DeviceNodes(const std::vector<spec::Device>&) override {
    return std::vector<spec::DeviceNode>();
  }
  Result<std::vector<spec::DeviceNode>> AllDevices(const std::vector<std::string>&) override {
    return std::vector<spec::DeviceNode>();
  }
  Result<std::optional<runtime::ContainerExit>> ReadExit(const std::string& run_dir, const ContainerId& id) override {
    Result<std::string> text = sys::ReadFile(StrCat(run_dir, "/exits/", id.str()));
    if (!text) return std::optional<runtime::ContainerExit>();
    std::vector<std::string_view> words = SplitWords(*text);
    return std::optional<runtime::ContainerExit>(
        {ParseInt<int>(words[0]).value(), 0, words[1] == "1", ParseInt<int64_t>(words[2]).value()});
  }

 private:
  World& world_;
};

}  // namespace

std::unique_ptr<runtime::Runtime> MakeRuntime(World& world) { return std::make_unique<FakeRuntime>(world); }
std::unique_ptr<network::Network> MakeNetwork(World& world) { return std::make_unique<FakeNetwork>(world); }
std::unique_ptr<image::Service> MakeImages(World& world) { return std::make_unique<FakeImages>(world); }
std::unique_ptr<cgroup::Cgroups> MakeCgroups(World& world) { return std::make_unique<FakeCgroups>(world); }
std::unique_ptr<Host> MakeHost(World& world) { return std::make_unique<FakeHost>(world); }

Daemon::Daemon(const std::string& dir, bool recover, Hooks* hooks, std::chrono::milliseconds retry_pause) : world(dir) {
  for (const char* kind : {"signals", "updates", "reopened", "limits", "resources", "launches", "restored"}) {
    Must(sys::MakeDirs(world.Dir(StrCat("world/", kind)), 0755));
  }
  Result<std::unique_ptr<state::Database>> opened = state::Database::Open(world.Dir("crisp.db"));
  Must(opened);
  db = std::move(*opened);
  world.events = relay.Callbacks();
  // Those of a daemon that was killed: they went with its connections to the shims.
  for (const std::string& name : world.Names("begun")) world.Remove("begun", name);
  runtime = MakeRuntime(world);
  network = MakeNetwork(world);
  images = MakeImages(world);
  cgroups = MakeCgroups(world);
  ManagerOptions options;
  options.root_dir = world.Dir("root");
  options.state_dir = world.Dir("state");
  options.default_handler = "runc";
  options.cdi_spec_dirs = {world.Dir("cdi")};
  options.annotations["runc"] = {{"pod.example/passed"}, {"container.example/passed"}};
  options.retry_pause = retry_pause;
  options.checkpoint = {.enabled = true, .restore = true};
  Result<std::unique_ptr<ManagerImpl>> made =
      MakeManager(options, {*db, *images, *network, *runtime, *cgroups, relay, hooks}, MakeHost(world));
  Must(made);
  manager = std::move(*made);
  // Again after an injected failure, as the next sweep would.
  if (recover && !manager->Recover(Ctx())) Must(manager->Recover(Ctx()));
}

Daemon::~Daemon() { manager.reset(); }

SandboxConfig Sandbox(const std::string& name, uint32_t attempt) {
  SandboxConfig config;
  config.metadata = {name, name + "-uid", "default", attempt};
  config.labels = {{"app", name}};
  config.port_mappings = {{Protocol::kTcp, 80, 8080, ""}, {Protocol::kTcp, 81, 0, ""}};
  return config;
}

ContainerConfig Container(const std::string& name, std::vector<std::string> command, uint32_t attempt) {
  ContainerConfig config;
  config.metadata = {name, attempt};
  config.image = "busybox";
  config.command = std::move(command);
  config.labels = {{"part", name}};
  return config;
}

}  // namespace crisp::pod::testing
