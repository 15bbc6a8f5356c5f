// features, spec.
#include <cstdio>

#include "base/json.h"
#include "base/strings.h"
#include "native/compile.h"
#include "oci/runtime_spec.h"
#include "ocicli/commands.h"
#include "sys/file.h"

namespace crisp::ocicli {

namespace {

Json SeccompFeatures() {
  return {{"enabled", true},
          {"actions", {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                       "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}},
          {"operators", {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"}},
          {"archs", {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32",
                     "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64",
                     "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86",
                     "SCMP_ARCH_X86_64"}},
          {"knownFlags", {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}},
          {"supportedFlags", {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}}};
}

Json NamespaceList(std::initializer_list<const char*> types) {
  Json list = Json::array();
  for (const char* type : types) list.push_back({{"type", type}});
  return list;
}

Json SpecProcess() {
  const std::vector<std::string> capabilities = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  return {{"terminal", true},
          {"user", {{"uid", 0}, {"gid", 0}}},
          {"args", {"sh"}},
          {"env", {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"}},
          {"cwd", "/"},
          {"capabilities", {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}},
          {"rlimits", Json::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}})},
          {"noNewPrivileges", true}};
}

Json SpecMounts() {
  auto mount = [](const char* destination, const char* type, const char* source, std::vector<std::string> options) {
    Json json = {{"destination", destination}, {"type", type}, {"source", source}};
    if (!options.empty()) json["options"] = options;
    return json;
  };
  return Json::array(
      {mount("/proc", "proc", "proc", {}), mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
       mount("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
       mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
       mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
       mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
       mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"})});
}

Result<int> Spec(Session&, const Flags& flags) {
  if (flags.On("rootless")) return Error(Code::kUnimplemented, "spec --rootless: containers of other users are not supported");
  std::string file = flags.Text("bundle", ".") + "/config.json";
  if (sys::Exists(file)) return Error(Code::kAlreadyExists, StrCat("file ", file, " exists. Remove it first"));
  TRY(sys::WriteFileAtomic(file, SpecJson(), 0666, sys::Durability::kNone));
  return 0;
}

Result<int> Features(Session&, const Flags&) {
  std::string text = FeaturesJson() + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace

std::string FeaturesJson() {
  Json linux_part = {{"namespaces", {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}},
                     {"capabilities", oci::CapabilityNames(oci::AllCapabilities())},
                     {"cgroup", {{"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", false}, {"rdma", true}}},
                     {"apparmor", {{"enabled", true}}},
                     {"selinux", {{"enabled", true}}},
                     {"intelRdt", {{"enabled", false}}},
                     {"mountExtensions", {{"idmap", {{"enabled", true}}}}},
                     {"netDevices", {{"enabled", false}}}};
  linux_part["seccomp"] = SeccompFeatures();
  Json json = {{"ociVersionMin", "1.0.0"},
               {"ociVersionMax", "1.3.0"},
               {"hooks", {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}},
               {"mountOptions", native::MountOptions()},
               {"linux", linux_part},
               {"annotations", {{"io.github.crisp.version", CRISP_VERSION}}}};
  return json.dump(4);
}

std::string SpecJson() {
  Json devices = Json::array({{{"allow", false}, {"access", "rwm"}}});
  Json json = {{"ociVersion", "1.2.0"},
               {"process", SpecProcess()},
               {"root", {{"path", "rootfs"}, {"readonly", true}}},
               {"hostname", "crisp"},
               {"mounts", SpecMounts()},
               {"linux",
                {{"resources", {{"devices", devices}}},
                 {"namespaces", NamespaceList({"pid", "network", "ipc", "uts", "mount", "cgroup"})},
                 {"maskedPaths", oci::DefaultMaskedPaths()},
                 {"readonlyPaths", oci::DefaultReadonlyPaths()}}}};
  return json.dump(4);
}

std::vector<Command> FeatureCommands() {
  return {
      {"features", "", "print what this program can, as JSON", 0, 0, {}, Features},
      {"spec", "", "write a config.json to begin with", 0, 0,
       {{"bundle,b", FlagSpec::kText, "directory for it (the current one)"}, {"rootless", FlagSpec::kBool, "refused"}}, Spec},
  };
}

}  // namespace crisp::ocicli
