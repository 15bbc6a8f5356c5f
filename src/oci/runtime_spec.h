// Facts of the OCI runtime-spec (https://github.com/opencontainers/runtime-spec) and of Linux that config.json is made
// from. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crisp::oci {

// The version that config.json names. Nothing newer than 1.0.2 is needed for what we write, and old runtimes refuse
// versions that they do not know.
inline constexpr std::string_view kRuntimeSpecVersion = "1.0.2";

// A set of capabilities; bit n = capability n of linux/capability.h.
using CapabilitySet = uint64_t;

// Number of "CAP_NET_ADMIN", "NET_ADMIN" or "net_admin"; nullopt when there is no such capability.
std::optional<int> CapabilityNumber(std::string_view name);
// "CAP_NET_ADMIN"; "" for a number that has no name here.
std::string_view CapabilityName(int number);
// Names in the order of their numbers.
std::vector<std::string> CapabilityNames(CapabilitySet set);
// All that have a name here.
CapabilitySet AllCapabilities();
// What a container has that asks for nothing: the 14 of Docker and containerd.
CapabilitySet DefaultCapabilities();
constexpr CapabilitySet CapabilityBit(int number) { return CapabilitySet{1} << number; }

// Paths of /proc and /sys that a container cannot see or not write unless it is privileged or says otherwise. Supersets
// of containerd's, Docker's and the kubelet's lists (checked by test): /sys/devices/virtual/powercap leaks power
// readings (PLATYPUS, GHSA-7ww5-4wqc-m92c), /proc/interrupts leaks what others type and do (GHSA-6fw5-f8r9-fgfm).
const std::vector<std::string>& DefaultMaskedPaths();
const std::vector<std::string>& DefaultReadonlyPaths();

// "amd64", "arm64", …: what this program was compiled for, as Go and the image-spec name it.
std::string_view NativeArch();

}  // namespace crisp::oci
