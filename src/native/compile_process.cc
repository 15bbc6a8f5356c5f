#include <sched.h>
#include <sys/capability.h>
#include <sys/resource.h>

#include <map>

#include "native/compile_parts.h"

namespace crisp::native {

namespace {

Result<uint64_t> Capabilities(const Node& capabilities, const char* key) {
  uint64_t set = 0;
  for (const std::string& name : TRY(capabilities.Get<std::vector<std::string>>(key))) {
    std::string lower;
    for (char c : name) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    cap_value_t value;
    // libcap also takes numbers and lower case, and whatever follows a name.
    bool plain = name.starts_with("CAP_") && name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == std::string::npos;
    if (!plain || cap_from_name(lower.c_str(), &value) != 0 || value < 0 || value >= 64) {
      return capabilities.Wrong(StrCat(key, ": unknown capability ", Quote(name)));
    }
    set |= uint64_t{1} << value;
  }
  return set;
}

Result<> User(const Node& process, Process& out) {
  Node user = TRY(process.Member("user"));
  out.uid = TRY(GetUint32(user, "uid"));
  out.gid = TRY(GetUint32(user, "gid"));
  Node umask = user.there() ? TRY(user.Member("umask")) : Node(nullptr, "");
  if (umask.there()) out.umask = static_cast<int32_t>(TRY(GetUint32(user, "umask")) & 0777);
  for (const Node& each : TRY(user.Items("additionalGids"))) {
    if (!IsNatural(each.json()) || each.json().get<uint64_t>() > UINT32_MAX)
      return each.Wrong("is not a group's number");
    out.groups.push_back(each.json().get<uint32_t>());
  }
  return {};
}

Result<> Rlimits(const Node& process, Process& out) {
  static const std::map<std::string_view, uint32_t> kNames = {{"RLIMIT_AS", RLIMIT_AS},
                                                              {"RLIMIT_CORE", RLIMIT_CORE},
                                                              {"RLIMIT_CPU", RLIMIT_CPU},
                                                              {"RLIMIT_DATA", RLIMIT_DATA},
                                                              {"RLIMIT_FSIZE", RLIMIT_FSIZE},
                                                              {"RLIMIT_LOCKS", RLIMIT_LOCKS},
                                                              {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
                                                              {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
                                                              {"RLIMIT_NICE", RLIMIT_NICE},
                                                              {"RLIMIT_NOFILE", RLIMIT_NOFILE},
                                                              {"RLIMIT_NPROC", RLIMIT_NPROC},
                                                              {"RLIMIT_RSS", RLIMIT_RSS},
                                                              {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
                                                              {"RLIMIT_RTTIME", RLIMIT_RTTIME},
                                                              {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
                                                              {"RLIMIT_STACK", RLIMIT_STACK}};
  uint64_t seen = 0;
  for (const Node& node : TRY(process.Items("rlimits"))) {
    std::string type = TRY(node.Get<std::string>("type"));
    auto found = kNames.find(type);
    if (found == kNames.end()) return node.Wrong(StrCat("unknown type ", Quote(type)));
    if ((seen >> found->second & 1) != 0) return node.Wrong(StrCat(type, " is there twice"));
    seen |= uint64_t{1} << found->second;
    out.rlimits.push_back({found->second, TRY(node.Get<uint64_t>("soft")), TRY(node.Get<uint64_t>("hard"))});
  }
  return {};
}

Result<> IoPriority(const Node& process, Process& out) {
  Node node = TRY(process.Member("ioPriority"));
  if (!node.there()) return {};
  std::string name = TRY(node.Get<std::string>("class"));
  int32_t priority = TRY(GetInt32(node, "priority"));
  int io_class = name == "IOPRIO_CLASS_RT" ? 1 : name == "IOPRIO_CLASS_BE" ? 2 : name == "IOPRIO_CLASS_IDLE" ? 3 : 0;
  if (io_class == 0) return node.Wrong(StrCat("class ", Quote(name)));
  if (priority < 0 || priority > 7) return node.Wrong(StrCat("priority ", priority, " is not 0 … 7"));
  out.ioprio = static_cast<int32_t>(io_class << 13 | static_cast<int>(priority));
  return {};
}

Result<> ReadScheduler(const Node& process, Process& out) {
  Node node = TRY(process.Member("scheduler"));
  if (!node.there()) return {};
  static const std::map<std::string_view, uint32_t> kPolicies = {
      {"SCHED_OTHER", SCHED_OTHER}, {"SCHED_FIFO", SCHED_FIFO}, {"SCHED_RR", SCHED_RR},
      {"SCHED_BATCH", SCHED_BATCH}, {"SCHED_ISO", 4},           {"SCHED_IDLE", SCHED_IDLE},
      {"SCHED_DEADLINE", 6}};
  static const std::map<std::string_view, uint64_t> kFlags = {
      {"SCHED_FLAG_RESET_ON_FORK", 0x01}, {"SCHED_FLAG_RECLAIM", 0x02},     {"SCHED_FLAG_DL_OVERRUN", 0x04},
      {"SCHED_FLAG_KEEP_POLICY", 0x08},   {"SCHED_FLAG_KEEP_PARAMS", 0x10}, {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
      {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}};
  Scheduler& s = out.scheduler;
  s.set = true;
  std::string policy = TRY(node.Get<std::string>("policy"));
  auto found = kPolicies.find(policy);
  if (found == kPolicies.end()) return node.Wrong(StrCat("policy ", Quote(policy)));
  s.policy = found->second;
  for (const std::string& flag : TRY(node.Get<std::vector<std::string>>("flags"))) {
    auto known = kFlags.find(flag);
    if (known == kFlags.end()) return node.Wrong(StrCat("flag ", Quote(flag)));
    s.flags |= known->second;
  }
  s.nice = TRY(GetInt32(node, "nice"));
  int32_t priority = TRY(GetInt32(node, "priority"));
  if (s.nice < -20 || s.nice > 19) return node.Wrong("nice is not -20 … 19");
  if (priority < 0 || (priority != 0 && s.policy != SCHED_FIFO && s.policy != SCHED_RR)) {
    return node.Wrong("priority is for SCHED_FIFO and SCHED_RR");
  }
  s.priority = static_cast<uint32_t>(priority);
  s.runtime_nanos = TRY(node.Get<uint64_t>("runtime"));
  s.deadline_nanos = TRY(node.Get<uint64_t>("deadline"));
  s.period_nanos = TRY(node.Get<uint64_t>("period"));
  constexpr uint32_t kDeadline = 6;
  if (s.policy != kDeadline && (s.runtime_nanos | s.deadline_nanos | s.period_nanos) != 0) {
    return node.Wrong("runtime, deadline and period are for SCHED_DEADLINE");
  }
  return {};
}

Result<> Terminal(const Node& process, Process& out) {
  out.terminal = TRY(process.Get<bool>("terminal"));
  Node size = TRY(process.Member("consoleSize"));
  if (!out.terminal || !size.there()) return {};
  uint32_t width = TRY(GetUint32(size, "width")), height = TRY(GetUint32(size, "height"));
  if (width > UINT16_MAX || height > UINT16_MAX) return size.Wrong("is too large");
  out.width = static_cast<uint16_t>(width);
  out.height = static_cast<uint16_t>(height);
  return {};
}

}  // namespace

Result<std::string> GetNumberMask(const Node& node, const char* key) {
  std::string text = TRY(node.Get<std::string>(key));
  std::string mask;
  if (text.empty()) return mask;
  for (std::string_view range : Split(text, ',')) {
    size_t dash = range.find('-');
    std::optional<unsigned> first = ParseInt<unsigned>(Trim(range.substr(0, dash)));
    std::optional<unsigned> last =
        dash == std::string_view::npos ? first : ParseInt<unsigned>(Trim(range.substr(dash + 1)));
    constexpr unsigned kNumbersMax = 8192;  // as many CPUs as a kernel can be built for
    if (!first || !last || *first > *last || *last >= kNumbersMax) {
      return node.Wrong(StrCat(key, " ", Quote(text), " is no list of numbers such as 0-3,7"));
    }
    if (mask.size() <= *last / 8) mask.resize(*last / 8 + 1, '\0');
    for (unsigned i = *first; i <= *last; ++i) mask[i / 8] = static_cast<char>(mask[i / 8] | 1 << (i % 8));
  }
  return mask;
}

namespace {

Result<> Personality(const Node& linux_node, Process& out) {
  Node node = TRY(linux_node.Member("personality"));
  if (!node.there()) return {};
  std::string domain = TRY(node.Get<std::string>("domain"));
  if (domain != "LINUX" && domain != "LINUX32") return node.Wrong(StrCat("domain ", Quote(domain)));
  out.personality = domain == "LINUX" ? 0 : 8;  // PER_LINUX32
  Node flags = TRY(node.Member("flags"));
  if (flags.there() && !flags.json().empty()) return flags.Unsupported("the specification knows none yet");
  return {};
}

// set_mempolicy(2); the numbers of linux/mempolicy.h, which is older than some of them.
Result<> MemoryPolicy(const Node& linux_node, Process& out) {
  Node node = TRY(linux_node.Member("memoryPolicy"));
  if (!node.there()) return {};
  enum class Nodes { kNone, kSome, kAny };
  struct Mode {
    int32_t number;
    Nodes nodes;
  };
  static const std::map<std::string_view, Mode> kModes = {{"MPOL_DEFAULT", {0, Nodes::kNone}},
                                                          {"MPOL_PREFERRED", {1, Nodes::kAny}},
                                                          {"MPOL_BIND", {2, Nodes::kSome}},
                                                          {"MPOL_INTERLEAVE", {3, Nodes::kSome}},
                                                          {"MPOL_LOCAL", {4, Nodes::kNone}},
                                                          {"MPOL_PREFERRED_MANY", {5, Nodes::kSome}},
                                                          {"MPOL_WEIGHTED_INTERLEAVE", {6, Nodes::kSome}}};
  static const std::map<std::string_view, int32_t> kFlags = {
      {"MPOL_F_STATIC_NODES", 1 << 15}, {"MPOL_F_RELATIVE_NODES", 1 << 14}, {"MPOL_F_NUMA_BALANCING", 1 << 13}};
  std::string name = TRY(node.Get<std::string>("mode"));
  auto mode = kModes.find(name);
  if (mode == kModes.end()) return node.Wrong(StrCat("mode ", Quote(name)));
  out.memory_policy = mode->second.number;
  for (const std::string& flag : TRY(node.Get<std::vector<std::string>>("flags"))) {
    auto known = kFlags.find(flag);
    if (known == kFlags.end()) return node.Wrong(StrCat("flags: ", Quote(flag)));
    out.memory_policy |= known->second;
  }
  out.memory_nodes = TRY(GetNumberMask(node, "nodes"));
  if (mode->second.nodes == Nodes::kNone && !out.memory_nodes.empty())
    return node.Wrong(StrCat(name, " goes without nodes"));
  if (mode->second.nodes == Nodes::kSome && out.memory_nodes.empty()) return node.Wrong(StrCat(name, " needs nodes"));
  return {};
}

}  // namespace

Result<> CompileExecution(const Node& linux_node, Process& out) {
  TRY(Personality(linux_node, out));
  return MemoryPolicy(linux_node, out);
}

Result<> CompileProcess(const Node& process, ProcessRole role, Process& out) {
  out.args = TRY(process.Get<std::vector<std::string>>("args"));
  if (out.args.empty()) return process.Wrong("no args");
  out.env = TRY(process.Get<std::vector<std::string>>("env"));
  out.cwd = TRY(process.Get<std::string>("cwd"));
  if (!out.cwd.starts_with('/')) return process.Wrong(StrCat("cwd ", Quote(out.cwd), " is not absolute"));
  TRY(Terminal(process, out));
  TRY(User(process, out));
  Node capabilities = TRY(process.Member("capabilities"));
  out.bounding = TRY(Capabilities(capabilities, "bounding"));
  out.effective = TRY(Capabilities(capabilities, "effective"));
  out.permitted = TRY(Capabilities(capabilities, "permitted"));
  out.inheritable = TRY(Capabilities(capabilities, "inheritable"));
  out.ambient = TRY(Capabilities(capabilities, "ambient"));
  out.no_new_privileges = TRY(process.Get<bool>("noNewPrivileges"));
  TRY(Rlimits(process, out));
  if (TRY(process.Member("oomScoreAdj")).there()) {
    int32_t score = TRY(GetInt32(process, "oomScoreAdj"));
    if (score < -1000 || score > 1000) return process.Wrong(StrCat("oomScoreAdj ", score, " is not -1000 … 1000"));
    out.set_oom_score_adj = true;
    out.oom_score_adj = score;
  }
  out.apparmor_profile = TRY(process.Get<std::string>("apparmorProfile"));
  out.selinux_label = TRY(process.Get<std::string>("selinuxLabel"));
  TRY(IoPriority(process, out));
  TRY(ReadScheduler(process, out));
  if (role == ProcessRole::kInit) return {};  // which execCPUAffinity does not apply to (config.md)
  Node affinity = TRY(process.Member("execCPUAffinity"));
  out.initial_affinity = TRY(GetNumberMask(affinity, "initial"));
  out.final_affinity = TRY(GetNumberMask(affinity, "final"));
  return {};
}

}  // namespace crisp::native
