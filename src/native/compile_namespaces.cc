#include <linux/sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "native/compile_parts.h"

namespace crisp::native {

namespace {

struct NamespaceType {
  std::string_view name;
  uint64_t flag;
};
constexpr std::array kTypes = std::to_array<NamespaceType>({{"pid", CLONE_NEWPID},
                                                            {"network", CLONE_NEWNET},
                                                            {"mount", CLONE_NEWNS},
                                                            {"ipc", CLONE_NEWIPC},
                                                            {"uts", CLONE_NEWUTS},
                                                            {"user", CLONE_NEWUSER},
                                                            {"cgroup", CLONE_NEWCGROUP},
                                                            {"time", CLONE_NEWTIME}});

Result<> TimeOffsets(const Node& linux_node, Launch& out) {
  Node offsets = TRY(linux_node.Member("timeOffsets"));
  if (!offsets.there()) return {};
  if ((out.new_namespaces & CLONE_NEWTIME) == 0 && !offsets.json().empty())
    return offsets.Wrong("without a new time namespace");
  if (!offsets.json().is_object()) return offsets.Wrong("is not an object");
  for (const auto& [clock, value] : offsets.json().items()) {
    Node offset(&value, StrCat(offsets.path(), ".", clock));
    if (clock != "monotonic" && clock != "boottime") return offset.Wrong("no such clock");
    uint32_t nanos = TRY(GetUint32(offset, "nanosecs"));
    constexpr uint32_t kNanosPerSecond = 1000000000;
    if (nanos >= kNanosPerSecond) return offset.Wrong(StrCat("nanosecs ", nanos, " is a second or more"));
    out.time_offsets += StrCat(clock, " ", TRY(offset.Get<int64_t>("secs")), " ", nanos, "\n");
  }
  return {};
}

bool IsIpcSysctl(std::string_view name) {
  constexpr std::array<std::string_view, 8> kNames = {"kernel/msgmax", "kernel/msgmnb",         "kernel/msgmni",
                                                      "kernel/sem",    "kernel/shmall",         "kernel/shmmax",
                                                      "kernel/shmmni", "kernel/shm_rmid_forced"};
  return name.starts_with("fs/mqueue/") || std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// The file below /proc/sys: "net/ipv4/ip_forward". The first separator decides how the rest is read, as in sysctl(8):
// in "net.ipv4.conf.eth0/1.forwarding" and "net/ipv4/conf/eth0.1/forwarding" the interface is eth0.1. "" for what leads
// elsewhere.
std::string SysctlFile(std::string name) {
  size_t separator = name.find_first_of("./");
  if (separator == std::string::npos) return {};
  if (name[separator] == '.') {
    for (char& c : name) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  for (std::string_view part : Split(name, '/')) {
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string_view::npos) return {};
  }
  return name;
}

bool IsOwnSysctl(const std::string& file, const Launch& launch) {
  if (file.starts_with("net/")) return HasNamespace(launch, CLONE_NEWNET);
  if (file.starts_with("user/")) return HasNamespace(launch, CLONE_NEWUSER);
  if (file == "kernel/domainname") return HasNamespace(launch, CLONE_NEWUTS);
  return IsIpcSysctl(file) && HasNamespace(launch, CLONE_NEWIPC);
}

constexpr std::array<std::pair<const char*, std::pair<uint32_t, uint32_t>>, 6> kDefaultDevices = {
    {{"/dev/null", {1, 3}},
     {"/dev/zero", {1, 5}},
     {"/dev/full", {1, 7}},
     {"/dev/random", {1, 8}},
     {"/dev/urandom", {1, 9}},
     {"/dev/tty", {5, 0}}}};

Result<Device> ReadDevice(const Node& node) {
  Device device;
  device.path = TRY(node.Get<std::string>("path"));
  if (!device.path.starts_with('/')) return node.Wrong("path is not absolute");
  std::string type = TRY(node.Get<std::string>("type"));
  device.type = type == "c" || type == "u" ? S_IFCHR : type == "b" ? S_IFBLK : type == "p" ? S_IFIFO : 0;
  if (device.type == 0) return node.Wrong(StrCat("type ", Quote(type)));
  for (const char* number : {"major", "minor"}) {
    Node member = TRY(node.Member(number));
    if (device.type != S_IFIFO && !member.there()) return member.Wrong("missing");
  }
  device.major = TRY(GetUint32(node, "major"));
  device.minor = TRY(GetUint32(node, "minor"));
  device.mode = TRY(GetUint32(node, "fileMode", 0666)) & 07777;
  device.uid = TRY(GetUint32(node, "uid"));
  device.gid = TRY(GetUint32(node, "gid"));
  return device;
}

}  // namespace

bool HasNamespace(const Launch& launch, uint64_t type) {
  if ((launch.new_namespaces & type) != 0) return true;
  return std::any_of(launch.join.begin(), launch.join.end(),
                     [&](const JoinNamespace& each) { return each.type == type; });
}

Result<std::vector<IdMapping>> CompileIdMappings(const Node& node, const char* key) {
  constexpr size_t kMappingsMax = 340;  // as the kernel takes (kernel/user_namespace.c)
  std::vector<IdMapping> maps;
  for (const Node& each : TRY(node.Items(key))) {
    maps.push_back({TRY(GetUint32(each, "containerID")), TRY(GetUint32(each, "hostID")), TRY(GetUint32(each, "size"))});
    if (maps.back().count == 0) return each.Wrong("size is 0");
    if (maps.size() > kMappingsMax) return node.Wrong(StrCat(key, ": more than ", kMappingsMax));
  }
  return maps;
}

Result<> CompileNamespaces(const Node& linux_node, Launch& out) {
  for (const Node& node : TRY(linux_node.Items("namespaces"))) {
    std::string type = TRY(node.Get<std::string>("type")), path = TRY(node.Get<std::string>("path"));
    auto known =
        std::find_if(kTypes.begin(), kTypes.end(), [&](const NamespaceType& each) { return each.name == type; });
    if (known == kTypes.end()) return node.Wrong(StrCat("type ", Quote(type)));
    if (HasNamespace(out, known->flag)) return node.Wrong(StrCat("namespace ", type, " is there twice"));
    if (path.empty()) {
      out.new_namespaces |= known->flag;
      continue;
    }
    if (!path.starts_with('/')) return node.Wrong(StrCat("path ", Quote(path), " is not absolute"));
    if (known->flag == CLONE_NEWNS) return node.Unsupported("joining a mount namespace");
    out.join.push_back({known->flag, std::move(path)});
  }
  if ((out.new_namespaces & CLONE_NEWNS) == 0)
    return linux_node.Unsupported("a container without a mount namespace of its own");
  out.uid_map = TRY(CompileIdMappings(linux_node, "uidMappings"));
  out.gid_map = TRY(CompileIdMappings(linux_node, "gidMappings"));
  bool new_user = (out.new_namespaces & CLONE_NEWUSER) != 0;
  if (new_user && (out.uid_map.empty() || out.gid_map.empty())) {
    return linux_node.Wrong("a new user namespace needs uidMappings and gidMappings");
  }
  if (!HasNamespace(out, CLONE_NEWUSER) && (!out.uid_map.empty() || !out.gid_map.empty())) {
    return linux_node.Wrong("uidMappings and gidMappings without a user namespace");
  }
  return TimeOffsets(linux_node, out);
}

Result<> CompileDevices(const Node& linux_node, Launch& out) {
  std::vector<Node> nodes = TRY(linux_node.Items("devices"));
  // The node's own /dev is not ours to add to.
  for (const Mount& mount : out.mounts) {
    if (mount.kind == Mount::kBind && CleanPath(mount.target) == "/dev") return {};
  }
  for (const Node& node : nodes) out.devices.push_back(TRY(ReadDevice(node)));
  for (const auto& [path, number] : kDefaultDevices) {
    bool there =
        std::any_of(out.devices.begin(), out.devices.end(), [&](const Device& each) { return each.path == path; });
    if (!there) out.devices.push_back({path, S_IFCHR, number.first, number.second, 0666, 0, 0});
  }
  for (const auto& [path, target] :
       std::initializer_list<std::pair<const char*, const char*>>{{"/dev/fd", "/proc/self/fd"},
                                                                  {"/dev/stdin", "/proc/self/fd/0"},
                                                                  {"/dev/stdout", "/proc/self/fd/1"},
                                                                  {"/dev/stderr", "/proc/self/fd/2"},
                                                                  {"/dev/ptmx", "pts/ptmx"},
                                                                  {"/dev/core", "/proc/kcore"}}) {
    out.symlinks.push_back({path, target});
  }
  return {};
}

Result<> CompileSysctls(const Node& linux_node, Launch& out) {
  Node sysctls = TRY(linux_node.Member("sysctl"));
  if (!sysctls.there()) return {};
  if (!sysctls.json().is_object()) return sysctls.Wrong("is not an object");
  for (const auto& [name, value] : sysctls.json().items()) {
    std::string file = SysctlFile(name);
    // It has a member of its own, which is set at another moment.
    if (file == "kernel/hostname") return sysctls.Wrong(StrCat(Quote(name), " is what \"hostname\" is for"));
    if (!IsOwnSysctl(file, out)) return sysctls.Wrong(StrCat(Quote(name), " is not of the container's own namespaces"));
    if (!value.is_string()) return sysctls.Wrong(StrCat(Quote(name), " is not a string"));
    out.sysctls.push_back({std::move(file), value.get<std::string>()});
  }
  return {};
}

}  // namespace crisp::native
