// Platforms: how names are normalised and which platforms a machine also runs. The order is containerd's
// (platforms.Only), so that both pick the same image from an index.
#include <sys/utsname.h>

#include <algorithm>

#include "base/strings.h"
#include "oci/manifest.h"

namespace crisp::oci {

namespace {

std::string Lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// "v7" → 7; 0 when it is none.
int VariantNumber(std::string_view variant) {
  if (!variant.starts_with('v')) return 0;
  return ParseInt<int>(variant.substr(1, variant.find('.') - 1)).value_or(0);
}

std::string MachineVariant(std::string_view architecture) {
#if defined(__x86_64__)
  if (architecture == "amd64") {
    if (__builtin_cpu_supports("x86-64-v4")) return "v4";
    if (__builtin_cpu_supports("x86-64-v3")) return "v3";
    if (__builtin_cpu_supports("x86-64-v2")) return "v2";
  }
#endif
  return architecture == "arm64" ? "v8" : architecture == "arm" ? "v7" : "";
}

// All that a machine `wanted` runs, best first. amd64 without a level and arm64 without a version are the base line.
std::vector<Platform> Runs(const Platform& wanted) {
  std::vector<Platform> out;
  auto add = [&](std::string_view architecture, std::string variant) {
    out.push_back(Normalize({wanted.os, std::string(architecture), std::move(variant), ""}));
  };
  auto add_down_to = [&](std::string_view architecture, int from, int to) {
    for (int v = from; v >= to; --v) add(architecture, StrCat("v", v));
  };
  int version = VariantNumber(wanted.variant);
  if (wanted.architecture == "amd64") {
    add_down_to("amd64", std::clamp(version, 1, 4), 2);
    add("amd64", "");
    add("386", "");
  } else if (wanted.architecture == "arm64") {
    if (version > 8) add("arm64", wanted.variant);
    add("arm64", "");
    add_down_to("arm", 8, 5);
  } else if (wanted.architecture == "arm") {
    add_down_to("arm", version == 0 ? 7 : std::min(version, 8), 5);
  } else {
    out.push_back(wanted);
  }
  return out;
}

// -1: does not run; else the lower the better.
int Rank(const Platform& offered, const std::vector<Platform>& runs) {
  Platform normal = Normalize(offered);
  for (size_t i = 0; i < runs.size(); ++i) {
    const Platform& p = runs[i];
    if (p.os == normal.os && p.architecture == normal.architecture && p.variant == normal.variant) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

bool IsAttestation(const Descriptor& entry) {
  if (entry.annotations.contains("vnd.docker.reference.type")) return true;
  return entry.platform && entry.platform->os == "unknown" && entry.platform->architecture == "unknown";
}

}  // namespace

std::string Platform::Text() const {
  return variant.empty() ? StrCat(os, "/", architecture) : StrCat(os, "/", architecture, "/", variant);
}

Platform Normalize(Platform platform) {
  platform.os = Lower(std::move(platform.os));
  if (platform.os == "macos") platform.os = "darwin";
  std::string& architecture = platform.architecture;
  std::string& variant = platform.variant;
  architecture = Lower(std::move(architecture));
  variant = Lower(std::move(variant));
  if (architecture == "x86_64" || architecture == "x86-64") architecture = "amd64";
  if (architecture == "i386" || architecture == "i686") architecture = "386";
  if (architecture == "aarch64") architecture = "arm64";
  if (architecture == "armhf") architecture = "arm", variant = "v7";
  if (architecture == "armel") architecture = "arm", variant = "v6";
  if (!variant.empty() && variant.front() >= '0' && variant.front() <= '9') variant.insert(0, "v");
  if (architecture == "amd64" && variant == "v1") variant.clear();
  if (architecture == "arm64" && variant == "v8") variant.clear();
  if (architecture == "arm" && variant.empty()) variant = "v7";
  if (architecture == "386") variant.clear();
  return platform;
}

Platform MachinePlatform() {
  utsname name{};
  uname(&name);
  std::string machine = name.machine;
  if (machine.starts_with("armv") || machine == "arm") machine = "arm";
  if (machine == "loongarch64") machine = "loong64";  // the others' names are Go's already, or Normalize knows them
  Platform platform = Normalize({"linux", machine, "", ""});
  platform.variant = MachineVariant(platform.architecture);
  return Normalize(platform);
}

bool Matches(const Platform& offered, const Platform& wanted) { return Rank(offered, Runs(Normalize(wanted))) >= 0; }

std::vector<const Descriptor*> ChoosePlatform(const Index& index, const Platform& wanted) {
  std::vector<Platform> runs = Runs(Normalize(wanted));
  struct Candidate {
    int rank;
    const Descriptor* entry;
  };
  std::vector<Candidate> candidates;
  for (const Descriptor& entry : index.manifests) {
    if (IsAttestation(entry) || !(IsManifestType(entry.media_type) || IsIndexType(entry.media_type))) continue;
    int rank = entry.platform ? Rank(*entry.platform, runs) : static_cast<int>(runs.size());
    if (rank >= 0) candidates.push_back({rank, &entry});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.rank < b.rank; });
  std::vector<const Descriptor*> out;
  out.reserve(candidates.size());
  for (const Candidate& candidate : candidates) out.push_back(candidate.entry);
  return out;
}

}  // namespace crisp::oci
