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

// Families that socket(2) may be called with: all that there are but AF_ALG (38), the door to the kernel's ciphers and
// to holes in them (CVE-2026-31431), and AF_VSOCK (40), which talks to the hypervisor and knows no network namespaces.
// As masks, because the kernel takes 32 bits of the argument and a filter compares 64: "not 40" would let 2^32+40 pass.
// socketcall(2) of 32-bit programs cannot be looked into; blocking it breaks too many of them.
struct MaskedValue {
  uint64_t mask, value;
};
inline constexpr MaskedValue kSocketFamilies[] = {{0xffffffe0, 0},  {0xfffffffc, 32}, {0xfffffffe, 36}, {0xffffffff, 39},
                                                  {0xffffffff, 41}, {0xfffffffe, 42}, {0xfffffffc, 44}};

}  // namespace crisp::oci::seccomp_default
