// Seccomp profiles: our default one and those of users, turned into OCI linux.seccomp. Pure; no libseccomp: the OCI
// runtime compiles them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/runtime_spec.h"

namespace crisp::oci {

// For whom a profile is made: rules of a profile can depend on both.
struct SeccompSubject {
  CapabilitySet capabilities = 0;  // the container's bounding set
  std::string_view arch;           // "amd64", …
};

// The RuntimeDefault profile: an allow-list; everything else gets EPERM (clone3: ENOSYS, so that glibc falls back to
// clone, whose flags can be checked). See seccomp_default.cc for what is left out and why.
nlohmann::json DefaultSeccomp(const SeccompSubject& subject);

// A Localhost profile file: OCI linux.seccomp as it is, or Docker's format ("archMap", "includes", "excludes",
// "minKernel"), resolved for `subject`. kInvalidArgument names what is wrong: an empty, malformed or meaningless
// profile must never end as "unconfined" (CVE-2023-2431).
Result<nlohmann::json> ParseSeccomp(std::string_view text, const SeccompSubject& subject);

}  // namespace crisp::oci
