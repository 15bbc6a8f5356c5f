// Cgroups of pods and containers, on v1 (one tree per controller), v2 (unified) and hybrid machines, under the drivers
// cgroupfs and systemd. Creating and joining container cgroups is the OCI runtime's work; this module knows where they
// are, removes what is ours, kills a cgroup whole and reads its facts.
//
// Paths here are cgroup paths as the kernel's /proc/PID/cgroup shows them ("/kubepods/burstable/pod…/ID"), without any
// mount point. Hierarchies that are not mounted in our own mountinfo are skipped (a v1 controller may be mounted elsewhere
// at any time). Threading: any thread; no state but the detected mounts and descriptors of files that are read often.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "cgroup/hierarchy.h"
#include "cgroup/limits.h"
#include "cgroup/usage.h"

namespace crisp::cgroup {

enum class Driver { kCgroupfs, kSystemd };

// Where a container's cgroup is.
struct Location {
  std::string oci_path;     // for config.json linux.cgroupsPath: "/parent/id" or "slice:prefix:id"
  std::string kernel_path;  // "/parent/id"; systemd: "/a.slice/a-b.slice/prefix-id.scope"
};

class Cgroups {
 public:
  struct Options {
    Driver driver = Driver::kCgroupfs;
    std::string root = "/sys/fs/cgroup";  // a fixture tree in tests
    std::string mountinfo = "/proc/self/mountinfo";
    std::string mounted = "/proc/self/cgroup";  // a line for each hierarchy; "" = look at all mounts
    std::string hugepages_dir = "/sys/kernel/mm/hugepages";
    bool only_ours = true;  // see below; false: for whoever is told its paths by others
  };
  static Result<std::unique_ptr<Cgroups>> Detect(const Options& options);
  virtual ~Cgroups() = default;

  virtual bool unified() const = 0;  // pure v2
  virtual Driver driver() const = 0;
  virtual const std::vector<std::string>& controllers() const = 0;
  virtual const Layout& layout() const = 0;  // fixed

  // `parent` is CRI's cgroup_parent ("" = /crisp for cgroupfs, system.slice for systemd: a pod's own is place.h's), `name` the container's id.
  // kInvalidArgument when the parent does not fit the driver (".slice" with cgroupfs and the reverse) or has "..".
  virtual Result<Location> Place(const std::string& parent, const std::string& name) const = 0;

  // Those below change cgroups, so they take only a `kernel_path` whose last part carries a 64-digit id of ours
  // ("/crisp/<id>", "…/crisp-<id>.scope", "…/crisp-<id>.slice"); anything else is kInvalidArgument. Whatever goes wrong in a caller, no
  // cgroup of somebody else can be emptied or removed. Without Options::only_ours any path but "/" is taken.
  //
  // Pod-level cgroup of `kernel_path` in every hierarchy, created where missing (cpuset files inherited on v1); by the
  // systemd driver what ends in ".slice" is a transient slice, which stays until Remove. kUnavailable: no systemd.
  virtual Result<> Create(const std::string& kernel_path) = 0;
  // Limits of an existing one (limits.h), of a slice by systemd as well.
  virtual Result<> SetLimits(const std::string& kernel_path, const Limits& limits) = 0;
  // A container's cgroup: made, and with the limits and device rules of the spec's linux.resources (resources.h). For
  // handlers that leave it to us.
  virtual Result<> CreateForContainer(const std::string& kernel_path, std::string_view resources_json) = 0;
  // The same as a transient scope of systemd: the last part of `kernel_path`, in the slice before it. systemd makes none
  // without a process: `placeholder` is moved in, and the caller ends it once the container's own has joined. systemd
  // removes the scope when it is empty. kUnavailable: no systemd.
  virtual Result<> CreateScope(const Ctx& ctx, const std::string& kernel_path, std::string_view resources_json,
                               pid_t placeholder) = 0;
  // New limits of one that runs; what `resources_json` does not name stays.
  virtual Result<> UpdateResources(const std::string& kernel_path, std::string_view resources_json) = 0;
  // Its directories: one for each v1 hierarchy, and the v2 one ("": none that carries processes of ours).
  struct Directories {
    std::vector<std::string> v1;
    std::string v2;
  };
  virtual Directories DirectoriesOf(const std::string& kernel_path) const = 0;
  // Stops and continues all of its processes (freezer, cgroup.freeze); returns when that is so.
  virtual Result<> Freeze(const Ctx& ctx, const std::string& kernel_path, bool frozen) = 0;
  // Removes the cgroup and everything below in every hierarchy. Missing is success. Processes in it: killed first.
  virtual Result<> Remove(const Ctx& ctx, const std::string& kernel_path) = 0;
  // Kills every process in it and below: cgroup.kill on v2, freeze+kill rounds on v1. Returns when none is left.
  virtual Result<> Kill(const Ctx& ctx, const std::string& kernel_path) = 0;
  virtual Result<std::vector<pid_t>> Processes(const std::string& kernel_path) const = 0;

  // What the processes in it have used. kNotFound when it is gone.
  virtual Result<Usage> Read(const std::string& kernel_path) const = 0;
  // The same and all that monitoring wants: three times as many files.
  virtual Result<Details> ReadDetails(const std::string& kernel_path) const = 0;
  // Files whose `oom_kill N` line tells whether the kernel killed inside: memory.oom_control (v1), memory.events (v2).
  virtual std::vector<std::string> OomEventFiles(const std::string& kernel_path) const = 0;
  // hugetlb page sizes this machine limits ("2MB", "1GB"); empty: no hugetlb controller.
  virtual std::vector<std::string> HugepageSizes() const = 0;
  virtual bool HasController(const std::string& name) const = 0;
  virtual bool SwapAccounting() const = 0;  // memory.memsw.* / memory.swap.max exist
};

// CRI RuntimeConfig's answer where the configuration says "auto": systemd when PID 1 is systemd and owns the tree.
Driver DetectDriver();

}  // namespace crisp::cgroup
