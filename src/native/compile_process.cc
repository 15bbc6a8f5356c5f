#include <linux/mempolicy.h>
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
    if (cap_from_name(lower.c_str(), &value) != 0 || value < 0 || value >= 64) {
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
  for (const Node& each : TRY(TRY(user.Member("additionalGids")).Items())) {
    if (!each.json().is_number_unsigned() || each.json().get<uint64_t>() > UINT32_MAX) return each.Wrong("is not a group's number");
    out.groups.push_back(each.json().get<uint32_t>());
  }
  return {};
}

Result<> Rlimits(const Node& process, Process& out) {
  static const std::map<std::string_view, uint32_t> kNames = {
      {"RLIMIT_AS", RLIMIT_AS}, {"RLIMIT_CORE", RLIMIT_CORE}, {"RLIMIT_CPU", RLIMIT_CPU}, {"RLIMIT_DATA", RLIMIT_DATA},
      {"RLIMIT_FSIZE", RLIMIT_FSIZE}, {"RLIMIT_LOCKS", RLIMIT_LOCKS}, {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
      {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE}, {"RLIMIT_NOFILE", RLIMIT_NOFILE},
      {"RLIMIT_NPROC", RLIMIT_NPROC}, {"RLIMIT_RSS", RLIMIT_RSS}, {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
      {"RLIMIT_RTTIME", RLIMIT_RTTIME}, {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING}, {"RLIMIT_STACK", RLIMIT_STACK}};
  uint64_t seen = 0;
  for (const Node& node : TRY(TRY(process.Member("rlimits")).Items())) {
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
  int64_t priority = TRY(node.Get<int64_t>("priority"));
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
      {"SCHED_OTHER", SCHED_OTHER}, {"SCHED_FIFO", SCHED_FIFO}, {"SCHED_RR", SCHED_RR}, {"SCHED_BATCH", SCHED_BATCH},
      {"SCHED_ISO", 4}, {"SCHED_IDLE", SCHED_IDLE}, {"SCHED_DEADLINE", 6}};
  static const std::map<std::string_view, uint64_t> kFlags = {
      {"SCHED_FLAG_RESET_ON_FORK", 0x01}, {"SCHED_FLAG_RECLAIM", 0x02}, {"SCHED_FLAG_DL_OVERRUN", 0x04},
      {"SCHED_FLAG_KEEP_POLICY", 0x08}, {"SCHED_FLAG_KEEP_PARAMS", 0x10}, {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
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
  s.nice = static_cast<int32_t>(TRY(node.Get<int64_t>("nice")));
  int64_t priority = TRY(node.Get<int64_t>("priority"));
  if (s.nice < -20 || s.nice > 19) return node.Wrong("nice is not -20 … 19");
  if (priority < 0 || (priority != 0 && s.policy != SCHED_FIFO && s.policy != SCHED_RR)) {
    return node.Wrong("priority is for SCHED_FIFO and SCHED_RR");
  }
  s.priority = static_cast<uint32_t>(priority);
  s.runtime_nanos = TRY(node.Get<uint64_t>("runtime"));
  s.deadline_nanos = TRY(node.Get<uint64_t>("deadline"));
  s.period_nanos = TRY(node.Get<uint64_t>("period"));
  return {};
}

// "0-3,7" as a mask.
Result<std::string> CpuMask(const Node& node, const char* key) {
  std::string text = TRY(node.Get<std::string>(key));
  std::string mask;
  if (text.empty()) return mask;
  for (std::string_view range : Split(text, ',')) {
    size_t dash = range.find('-');
    std::optional<unsigned> first = ParseInt<unsigned>(Trim(range.substr(0, dash)));
    std::optional<unsigned> last = dash == std::string_view::npos ? first : ParseInt<unsigned>(Trim(range.substr(dash + 1)));
    constexpr unsigned kCpusMax = 8192;
    if (!first || !last || *first > *last || *last >= kCpusMax) return node.Wrong(StrCat(key, " ", Quote(text), " is no list of CPUs"));
    if (mask.size() <= *last / 8) mask.resize(*last / 8 + 1, '\0');
    for (unsigned i = *first; i <= *last; ++i) mask[i / 8] = static_cast<char>(mask[i / 8] | 1 << (i % 8));
  }
  return mask;
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

Result<> CompileProcess(const Node& process, Process& out) {
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
    int64_t score = TRY(process.Get<int64_t>("oomScoreAdj"));
    if (score < -1000 || score > 1000) return process.Wrong(StrCat("oomScoreAdj ", score, " is not -1000 … 1000"));
    out.set_oom_score_adj = true;
    out.oom_score_adj = static_cast<int32_t>(score);
  }
  out.apparmor_profile = TRY(process.Get<std::string>("apparmorProfile"));
  out.selinux_label = TRY(process.Get<std::string>("selinuxLabel"));
  TRY(IoPriority(process, out));
  TRY(ReadScheduler(process, out));
  Node affinity = TRY(process.Member("execCPUAffinity"));
  out.initial_affinity = TRY(CpuMask(affinity, "initial"));
  out.final_affinity = TRY(CpuMask(affinity, "final"));
  return {};
}

}  // namespace crisp::native
