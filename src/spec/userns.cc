// User namespaces of pods: which maps are taken, and who can be in them.
#include "spec/userns.h"

#include <algorithm>

#include "base/strings.h"
#include "spec/parts.h"

namespace crisp::spec {

namespace {

constexpr uint64_t kIdsEnd = 0xffffffff;  // the last number is nobody's: (uid_t)-1

bool Overlap(uint32_t a, uint32_t a_length, uint32_t b, uint32_t b_length) {
  return a < uint64_t{b} + b_length && b < uint64_t{a} + a_length;
}

bool Contains(const std::vector<IdMapping>& maps, int64_t id) {
  return std::any_of(maps.begin(), maps.end(), [&](const IdMapping& m) {
    return id >= m.container_id && id < int64_t{m.container_id} + m.length;
  });
}

}  // namespace

Result<> CheckIdMappings(std::string_view field, const std::vector<IdMapping>& maps) {
  for (size_t i = 0; i < maps.size(); ++i) {
    const IdMapping& m = maps[i];
    std::string where = StrCat(field, "[", i, "]: ");
    if (m.length == 0) return Invalid(where + "length 0");
    if (uint64_t{m.host_id} + m.length > kIdsEnd) return Invalid(where + "host_id and length go beyond the last id");
    if (uint64_t{m.container_id} + m.length > kIdsEnd)
      return Invalid(where + "container_id and length go beyond the last id");
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(m.container_id, m.length, maps[j].container_id, maps[j].length)) {
        return Invalid(StrCat(where, "container ids overlap with [", j, "]"));
      }
      if (Overlap(m.host_id, m.length, maps[j].host_id, maps[j].length)) {
        return Invalid(StrCat(where, "host ids overlap with [", j, "]"));
      }
    }
  }
  return {};
}

Result<> CheckUserns(const SandboxSecurity& security) {
  const NamespaceOptions& namespaces = security.namespaces;
  const std::string field = "namespace_options.userns_options";
  if (!namespaces.userns_pod) {
    if (!namespaces.uids.empty()) return Invalid(field + ".uids: only with mode POD");
    if (!namespaces.gids.empty()) return Invalid(field + ".gids: only with mode POD");
    return {};
  }
  for (const auto& [name, maps] : {std::pair(".uids", &namespaces.uids), std::pair(".gids", &namespaces.gids)}) {
    if (maps->empty()) return Invalid(StrCat(field, name, ": missing for mode POD"));
    TRY(CheckIdMappings(field + name, *maps));
    if (!Contains(*maps, 0)) return Invalid(StrCat(field, name, ": container id 0 is not mapped"));
    for (const IdMapping& m : *maps) {
      if (m.host_id == 0) return Invalid(StrCat(field, name, ": would map the node's root"));
    }
  }
  if (security.privileged) return Invalid(field + ": a privileged pod cannot have a user namespace of its own");
  if (namespaces.pid == NamespaceMode::kNode) return Invalid(field + ": not with the node's PID namespace");
  if (namespaces.ipc == NamespaceMode::kNode) return Invalid(field + ": not with the node's IPC namespace");
  return {};
}

Result<> CheckContainerUserns(const SandboxSecurity& sandbox, const NamespaceOptions& container) {
  if (!container.userns_pod) return {};  // nothing asked for: it is in its pod's
  const std::string field = "namespace_options.userns_options: ";
  if (!sandbox.namespaces.userns_pod) return Invalid(field + "the pod has no user namespace");
  if (container.uids != sandbox.namespaces.uids || container.gids != sandbox.namespaces.gids) {
    return Invalid(field + "other mappings than the pod's");
  }
  return {};
}

Result<> CheckUserInUserns(const NamespaceOptions& pod, const ResolvedUser& user) {
  if (!pod.userns_pod) return {};
  if (!Contains(pod.uids, user.uid)) return Invalid(StrCat("user ", user.uid, " is not in the pod's user namespace"));
  if (!Contains(pod.gids, user.gid)) return Invalid(StrCat("group ", user.gid, " is not in the pod's user namespace"));
  for (uint32_t gid : user.additional_gids) {
    if (!Contains(pod.gids, gid)) return Invalid(StrCat("group ", gid, " is not in the pod's user namespace"));
  }
  return {};
}

bool HasGroup(const NamespaceOptions& pod, uint32_t gid) { return !pod.userns_pod || Contains(pod.gids, gid); }

uint32_t HostRoot(const std::vector<IdMapping>& maps) {
  for (const IdMapping& m : maps) {
    if (m.container_id == 0) return m.host_id;
  }
  return 0;
}

}  // namespace crisp::spec
