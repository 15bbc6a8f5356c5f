// Seccomp, AppArmor, SELinux, and the paths of /proc and /sys that are hidden or read-only.
#include <algorithm>

#include "base/strings.h"
#include "oci/seccomp.h"
#include "spec/parts.h"

namespace crisp::spec {

namespace {

// The structured field, or else the deprecated text: "", "unconfined", "runtime/default", "docker/default",
// "localhost/<ref>". Nothing asked means unconfined: the kubelet says what it wants.
Result<SecurityProfile> ProfileOf(const std::optional<SecurityProfile>& profile, const std::string& text,
                                  std::string_view what) {
  if (profile) return *profile;
  SecurityProfile out;
  if (text.empty() || text == "unconfined") return out;
  if (text == "runtime/default" || text == "docker/default") {
    out.type = ProfileType::kRuntimeDefault;
    return out;
  }
  if (!text.starts_with("localhost/")) return Invalid(StrCat("unknown ", what, " profile ", Quote(text)));
  out.type = ProfileType::kLocalhost;
  out.localhost_ref = text.substr(std::string_view("localhost/").size());
  return out;
}

Result<SecurityProfile> SeccompProfile(const ContainerConfig& config) {
  return ProfileOf(config.security.seccomp, config.security.seccomp_profile_path, "seccomp");
}

}  // namespace

Result<std::string> SeccompProfilePath(const ContainerConfig& config) {
  SecurityProfile profile = TRY(SeccompProfile(config));
  if (config.security.privileged || profile.type != ProfileType::kLocalhost) return std::string();
  return CleanPath(profile.localhost_ref, "seccomp profile");
}

Result<Json> PlanSeccomp(const Planning& p, oci::CapabilitySet capabilities) {
  SecurityProfile profile = TRY(SeccompProfile(p.in.config));
  // As every CRI runtime has it: privileged means without a filter.
  if (p.privileged() || profile.type == ProfileType::kUnconfined) return Json();
  if (!p.node.seccomp) return NotHere("a seccomp profile is asked for, and this node's kernel has no seccomp");
  oci::SeccompSubject subject{.capabilities = capabilities, .arch = p.arch};
  if (profile.type == ProfileType::kRuntimeDefault) return oci::DefaultSeccomp(subject);
  std::string path = TRY(CleanPath(profile.localhost_ref, "seccomp profile"));
  if (!p.in.seccomp_profile) return NotHere(StrCat("seccomp profile ", Quote(path), " cannot be read"));
  return TRY(oci::ParseSeccomp(*p.in.seccomp_profile, subject), path);
}

Result<std::string> PlanAppArmor(const Planning& p) {
  SecurityProfile profile = TRY(ProfileOf(p.security().apparmor, p.security().apparmor_profile, "AppArmor"));
  switch (profile.type) {
    case ProfileType::kUnconfined: return std::string();
    case ProfileType::kRuntimeDefault:
      // "If the node has it": the kubelet asks for the default everywhere.
      if (!p.node.apparmor || p.privileged()) return std::string();
      if (p.node.apparmor_default_profile.empty()) p.Warn("no default AppArmor profile is loaded, going without");
      return p.node.apparmor_default_profile;
    case ProfileType::kLocalhost: break;
  }
  if (profile.localhost_ref.empty()) return Invalid("an AppArmor profile without a name");
  if (!p.node.apparmor)
    return NotHere(StrCat("AppArmor profile ", Quote(profile.localhost_ref), ": this node has no AppArmor"));
  const auto& loaded = p.node.apparmor_profiles;
  if (std::find(loaded.begin(), loaded.end(), profile.localhost_ref) == loaded.end()) {
    return NotHere(StrCat("AppArmor profile ", Quote(profile.localhost_ref), " is not loaded"));
  }
  return profile.localhost_ref;
}

Result<SelinuxLabels> PlanSelinux(const Planning& p) {
  if (!p.node.selinux) return SelinuxLabels{};
  SelinuxOptions options = p.security().selinux;
  bool asked = !(options.user + options.role + options.type + options.level).empty();
  if (!asked) options = p.in.sandbox.security.selinux;
  asked = !(options.user + options.role + options.type + options.level).empty();
  if (!asked) return SelinuxLabels{};
  auto field = [](const std::string& value, const char* fallback) {
    return value.empty() ? std::string(fallback) : value;
  };
  for (const std::string* each : {&options.user, &options.role, &options.type, &options.level}) {
    if (each->find_first_of(std::string_view(" \t\n\0", 4)) != std::string::npos)
      return Invalid(StrCat("bad SELinux label part ", Quote(*each)));
  }
  std::string level = field(options.level, "s0");
  std::string user = field(options.user, "system_u");
  const char* domain = p.privileged() ? "spc_t" : "container_t";
  return SelinuxLabels{
      .process = StrCat(user, ":", field(options.role, "system_r"), ":", field(options.type, domain), ":", level),
      .mount = StrCat(user, ":object_r:container_file_t:", level)};
}

// The kubelet sends both lists always, empty for procMount: Unmasked, which Kubernetes allows with user namespaces
// only. So an empty list elsewhere comes from a client that did not think of it (crictl) and means the defaults. One
// that is not empty adds to the defaults: the kubelet's is as old as the kubelet, and knows nothing of this node's paths.
Result<ProcPaths> PlanProcPaths(const Planning& p) {
  ProcPaths paths;
  if (p.privileged()) return paths;
  bool unmasked_allowed = p.userns();
  auto choose = [&](const std::vector<std::string>& asked, const std::vector<std::string>& fallback) {
    if (asked.empty() && unmasked_allowed && !p.policy.ignore_proc_mount) return asked;
    std::vector<std::string> all = fallback;
    if (p.policy.ignore_proc_mount) return all;
    for (const std::string& path : asked) {
      if (std::find(all.begin(), all.end(), path) == all.end()) all.push_back(path);
    }
    return all;
  };
  std::vector<std::string> masked = oci::DefaultMaskedPaths();
  masked.insert(masked.end(), p.node.masked_paths.begin(), p.node.masked_paths.end());
  for (const std::string& path : choose(p.security().masked_paths, masked)) {
    paths.masked.push_back(TRY(CleanPath(path, "masked path")));
  }
  for (const std::string& path : choose(p.security().readonly_paths, oci::DefaultReadonlyPaths())) {
    paths.readonly.push_back(TRY(CleanPath(path, "read-only path")));
  }
  return paths;
}

}  // namespace crisp::spec
