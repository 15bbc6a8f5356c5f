// The tables of the RuntimeDefault seccomp profile. Internal to the module.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace crisp::oci::seccomp_default {

// Allowed for everybody; names separated by blanks.
extern const std::string_view kAllowed;

// Allowed with a capability. An entry with several capabilities counts when one of them is held.
struct WithCapability {
  std::string_view capabilities;  // "CAP_SYS_ADMIN CAP_BPF"
  std::string_view syscalls;
};
extern const std::span<const WithCapability> kWithCapability;

// Allowed on some machines only.
struct OnArch {
  std::string_view archs;  // "amd64 386"
  std::string_view syscalls;
};
extern const std::span<const OnArch> kOnArch;

// Values personality(2) may be called with: Linux, UNAME26, their 32-bit forms, and the question 0xffffffff.
inline constexpr uint64_t kPersonalities[] = {0x0, 0x0008, 0x20000, 0x20008, 0xffffffff};

// CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET (linux/sched.h): refused in clone(2) without CAP_SYS_ADMIN.
inline constexpr uint64_t kCloneNamespaceFlags = 0x7e020000;

inline constexpr uint64_t kAfVsock = 40;  // AF_VSOCK talks to the hypervisor and knows no network namespaces

}  // namespace crisp::oci::seccomp_default
