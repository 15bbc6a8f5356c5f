// Transient scopes of systemd (org.freedesktop.systemd1, StartTransientUnit): how a cgroup comes to be where systemd owns
// the tree. Over systemd's own socket where that can be opened, else over the system bus.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "cgroup/resources.h"

namespace crisp::cgroup {

struct Scope {
  std::string unit, slice;  // "crisp-….scope", "kubepods-pod….slice"
  pid_t pid = 0;            // moved in
  // Beside Slice, PIDs, Delegate and the like. All of them are 64-bit numbers on the bus.
  std::vector<std::pair<std::string, uint64_t>> properties;
};

// `kernel_path` of a scope within slices ("/a.slice/a-b.slice/x.scope"). kInvalidArgument: it is none. Pure.
Result<Scope> ScopeOf(const std::string& kernel_path);

// What systemd has to know of the limits: it writes what it thinks they are again when it is told to reload. Pure.
// `fresh`: of a new scope, which would get limits that nobody asked for; else only what `resources` names.
std::vector<std::pair<std::string, uint64_t>> ScopeProperties(const Resources& resources, const Layout& layout, bool fresh);

// Returns when the scope is there. A unit of that name which has failed is put away first. Blocking, any thread.
// kUnavailable: no systemd; kAlreadyExists: the unit runs.
Result<> StartScope(const Ctx& ctx, const Scope& scope);
// New values of a running scope's properties, until it ends. kUnavailable: no systemd; kNotFound: no such unit.
Result<> SetScopeProperties(const Ctx& ctx, const Scope& scope);

}  // namespace crisp::cgroup
