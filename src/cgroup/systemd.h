// Transient units of systemd (org.freedesktop.systemd1, StartTransientUnit): how a cgroup comes to be where systemd owns
// the tree. Scopes for containers, slices for pods that named no parent. Over systemd's own socket where that can be opened, else over the system bus.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "cgroup/resources.h"

namespace crisp::cgroup {

struct Unit {
  std::string name;   // "crisp-….scope", "crisp-….slice"
  std::string slice;  // of a scope: "kubepods-pod….slice"; "": it is a slice, whose name says it
  pid_t pid = 0;      // of a scope: moved in
  // Beside Slice, PIDs, Delegate and the like. All of them are 64-bit numbers on the bus.
  std::vector<std::pair<std::string, uint64_t>> properties;
};

// `kernel_path` of a scope within slices ("/a.slice/a-b.slice/x.scope") or of a slice ("/a.slice/a-b.slice").
// kInvalidArgument: it is none. Pure.
Result<Unit> UnitOf(const std::string& kernel_path);

// What systemd has to know of the limits: it writes what it thinks they are again when it is told to reload. Pure.
// `fresh`: of a new unit, which would get limits that nobody asked for; else only what `resources` names.
std::vector<std::pair<std::string, uint64_t>> UnitProperties(const Resources& resources, const Layout& layout, bool fresh);

// Returns when it is there. A unit of that name which has failed is put away first. Blocking, any thread.
// kUnavailable: no systemd; kAlreadyExists: the unit runs.
Result<> StartUnit(const Ctx& ctx, const Unit& unit);
// New values of a running unit's properties, until it ends. kUnavailable: no systemd; kNotFound: no such unit.
Result<> SetUnitProperties(const Ctx& ctx, const Unit& unit);
// Returns when it has ended, a slice with all that is in it. Success: there is none. kUnavailable: no systemd.
Result<> StopUnit(const Ctx& ctx, const Unit& unit);

}  // namespace crisp::cgroup
