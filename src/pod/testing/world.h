// A node made of files, for tests of workflows: what shims, plugins, mounts and image leases there are is which files
// there are. So a manager can be killed at any point, a new one opened on what is left, and whatever nobody owns in
// the end is seen as a file that is still there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "image/service.h"
#include "network/network.h"
#include "pod/events.h"
#include "pod/host.h"
#include "pod/manager_impl.h"
#include "runtime/runtime.h"
#include "state/database.h"

namespace crisp::pod::testing {

// How the parts misbehave; read at each call.
struct Faults {
  int teardowns_failing = 0;    // so many network teardowns fail, then they work
  int setups_failing = 0;
  int shim_starts_failing = 0;
  int shims_set_up = 0;               // how many were told their network namespace
  bool setup_waits_for_shim = false;  // the network's plugins end when the pod's shim is there, or after 10 s with an error
  int limits_failing = 0;             // of containers' cgroups, which have some of them then
  int deletes_failing = 0;      // of containers, in the OCI runtime
  int checkpoints_failing = 0;
  bool shim_hangs = false;      // signals time out
  int64_t memory_used = 0;      // by every cgroup; 0: none is there
  bool reconnect_hangs = false;
  std::string image_refused;    // by the signature policy: TAG as "REFERENCE" in NAMESPACE
  int failing_after_netns = 0;  // network setups
  // Called within the call: a test's place to stop it.
  std::function<void()> in_setup, after_setup, in_start, in_rootfs, in_mount_sources;
};

// What a container does is said by its command (process.args of config.json):
//   "run" until a signal; "stubborn" ignores all but SIGKILL; "undead": SIGKILL has no effect that its shim tells of;
//   "exit N" ends at once; "oom" is killed by the kernel; "missing": there is no such program;
//   "gibberish" does not start either, and what tells why is no UTF-8.
class World {
 public:
  explicit World(std::string dir);

  // ---- what is there ----
  void Put(const std::string& kind, const std::string& name, const std::string& content = "");
  void Remove(const std::string& kind, const std::string& name);
  bool Has(const std::string& kind, const std::string& name) const;
  std::string Get(const std::string& kind, const std::string& name) const;
  std::vector<std::string> Names(const std::string& kind) const;
  // "kind/name" of everything that is left, directories of the manager included.
  std::vector<std::string> Left() const;

  std::string Dir(const std::string& name) const { return dir_ + "/" + name; }
  // The container's process ends; its shim writes the exit file and tells, unless `told` is false.
  void End(const ContainerId& id, int code, bool oom_killed, bool told);
  void KillInCgroup(const std::string& path);
  // The shim of a pod dies; its containers go on.
  void KillShim(const PodId& pod);
  void EndBegunOf(const PodId& pod);
  void Reboot();  // everything that dies with the boot, and a new boot id

  Synchronized<Faults> faults;
  runtime::Events events;

 private:
  const std::string dir_;
  Synchronized<int> ending_;  // held while a process ends
};

// The parts, each working on the world. `world` outlives them.
std::unique_ptr<runtime::Runtime> MakeRuntime(World& world);
std::unique_ptr<network::Network> MakeNetwork(World& world);
std::unique_ptr<image::Service> MakeImages(World& world);
std::unique_ptr<cgroup::Cgroups> MakeCgroups(World& world);
std::unique_ptr<Host> MakeHost(World& world);

// All of it, with a manager: one life of crispd. Several may follow each other on one directory.
class Daemon {
 public:
  explicit Daemon(const std::string& dir, bool recover = true, Hooks* hooks = nullptr,
                  std::chrono::milliseconds retry_pause = std::chrono::hours(1));
  ~Daemon();

  Manager& operator*() { return *manager; }
  ManagerImpl* operator->() { return manager.get(); }

  World world;
  EventRelay relay;
  std::unique_ptr<state::Database> db;
  std::unique_ptr<runtime::Runtime> runtime;
  std::unique_ptr<network::Network> network;
  std::unique_ptr<image::Service> images;
  std::unique_ptr<cgroup::Cgroups> cgroups;
  std::unique_ptr<ManagerImpl> manager;
};

// Requests as the kubelet makes them.
SandboxConfig Sandbox(const std::string& name, uint32_t attempt = 0);
ContainerConfig Container(const std::string& name, std::vector<std::string> command = {"run"}, uint32_t attempt = 0);

}  // namespace crisp::pod::testing
