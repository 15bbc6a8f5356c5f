#include <linux/filter.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <map>

#include "base/synchronized.h"
#include "native/compile_parts.h"
#include "sys/fd.h"

namespace crisp::native {

namespace {

constexpr size_t kProgramBytesMax = 1u << 20;
constexpr size_t kKept = 16;
constexpr uint32_t kLog = 2, kSpecAllow = 4, kWaitKillable = 32;  // SECCOMP_FILTER_FLAG_*

struct Free {
  void operator()(scmp_filter_ctx context) const { seccomp_release(context); }
};
using Filter = std::unique_ptr<void, Free>;

Error Failed(int negative_errno, const std::string& what) {
  return Errno(-negative_errno, what).As(Code::kInvalidArgument);
}

// `errno_key`: the member with what SCMP_ACT_ERRNO and SCMP_ACT_TRACE tell.
Result<uint32_t> Action(const Node& node, const char* key, const char* errno_key) {
  static const std::map<std::string_view, uint32_t> kNames = {{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
                                                              {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
                                                              {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
                                                              {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
                                                              {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
                                                              {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
                                                              {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
                                                              {"SCMP_ACT_LOG", SCMP_ACT_LOG},
                                                              {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY}};
  std::string name = TRY(node.Get<std::string>(key));
  auto found = kNames.find(name);
  if (found == kNames.end()) return node.Wrong(StrCat(key, " ", Quote(name)));
  const bool is_errno = name == "SCMP_ACT_ERRNO";
  Node member = TRY(node.Member(errno_key));
  if (!is_errno && name != "SCMP_ACT_TRACE") {
    if (member.there()) return member.Wrong(StrCat("means nothing with ", name));
    return found->second;
  }
  constexpr uint32_t kErrnoMax = 4095, kTraceMax = 0xffff;  // the kernel would cut it down
  uint32_t data = TRY(GetUint32(node, errno_key, EPERM));
  if (data > (is_errno ? kErrnoMax : kTraceMax)) return member.Wrong(StrCat(data, " is too large"));
  return found->second | data;
}

Result<scmp_compare> Operator(const Node& node) {
  static const std::map<std::string_view, scmp_compare> kNames = {{"SCMP_CMP_NE", SCMP_CMP_NE},
                                                                  {"SCMP_CMP_LT", SCMP_CMP_LT},
                                                                  {"SCMP_CMP_LE", SCMP_CMP_LE},
                                                                  {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                                  {"SCMP_CMP_GE", SCMP_CMP_GE},
                                                                  {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                                  {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  std::string name = TRY(node.Get<std::string>("op"));
  auto found = kNames.find(name);
  if (found == kNames.end()) return node.Wrong(StrCat("op ", Quote(name)));
  return found->second;
}

// SCMP_ARCH_*, the machine's own first: it is always there.
Result<std::vector<uint32_t>> AddArchitectures(const Node& seccomp, scmp_filter_ctx filter) {
  std::vector<uint32_t> all = {seccomp_arch_native()};
  for (const std::string& name : TRY(seccomp.Get<std::vector<std::string>>("architectures"))) {
    constexpr std::string_view kPrefix = "SCMP_ARCH_";
    std::string lower;
    if (name.starts_with(kPrefix)) {
      for (char c : name.substr(kPrefix.size())) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    uint32_t token = seccomp_arch_resolve_name(lower.c_str());
    if (token == 0) return seccomp.Wrong(StrCat("architectures: ", Quote(name)));
    int added = seccomp_arch_add(filter, token);
    if (added == -EEXIST) continue;
    if (added != 0) return Failed(added, StrCat("linux.seccomp.architectures: ", name));
    all.push_back(token);
  }
  return all;
}

Result<std::vector<scmp_arg_cmp>> Arguments(const Node& rule) {
  std::vector<scmp_arg_cmp> arguments;
  for (const Node& node : TRY(rule.Items("args"))) {
    uint64_t index = TRY(node.Get<uint64_t>("index"));
    if (index > 5) return node.Wrong(StrCat("index ", index));
    arguments.push_back({static_cast<unsigned>(index), TRY(Operator(node)), TRY(node.Get<uint64_t>("value")),
                         TRY(node.Get<uint64_t>("valueTwo"))});
  }
  return arguments;
}

// libseccomp joins conditions on different arguments by "and" and takes one for each; several on the same argument are
// meant as "or", one rule each (as runc reads them).
Result<> AddRule(scmp_filter_ctx filter, uint32_t action, int call, const std::vector<scmp_arg_cmp>& arguments,
                 const std::string& name) {
  unsigned seen = 0;
  bool twice = false;
  for (const scmp_arg_cmp& argument : arguments) {
    twice = twice || (seen >> argument.arg & 1) != 0;
    seen |= 1u << argument.arg;
  }
  if (!twice) {
    int added = seccomp_rule_add_array(filter, action, call, static_cast<unsigned>(arguments.size()), arguments.data());
    return added == 0 ? Result<>() : Result<>(Failed(added, StrCat("linux.seccomp.syscalls: rule for ", name)));
  }
  for (const scmp_arg_cmp& argument : arguments) {
    int added = seccomp_rule_add_array(filter, action, call, 1, &argument);
    if (added != 0) return Failed(added, StrCat("linux.seccomp.syscalls: rule for ", name));
  }
  return {};
}

// One entry of linux.seccomp.syscalls. A call that libseccomp does not know is left to NewSyscallsProgram.
Result<SeccompRule> AddRules(const Node& node, scmp_filter_ctx filter, uint32_t default_action) {
  SeccompRule rule;
  rule.action = TRY(Action(node, "action", "errnoRet"));
  rule.names = TRY(node.Get<std::vector<std::string>>("names"));
  if (rule.names.empty()) return node.Wrong("no names");
  std::vector<scmp_arg_cmp> arguments = TRY(Arguments(node));
  rule.conditional = !arguments.empty();
  if (rule.action == default_action) return rule;  // libseccomp refuses rules that change nothing
  for (const std::string& name : rule.names) {
    int call = seccomp_syscall_resolve_name(name.c_str());
    if (call != __NR_SCMP_ERROR) TRY(AddRule(filter, rule.action, call, arguments, name));
  }
  return rule;
}

// The flags of a filter that has no notify descriptor; FinishListener adds its own.
Result<uint32_t> Flags(const Node& seccomp) {
  uint32_t flags = 0;
  // Without "flags" what a container costs on CPUs with speculative store bypass is not raised (as runc does).
  if (!TRY(seccomp.Member("flags")).there()) return kSpecAllow;
  for (const std::string& flag : TRY(seccomp.Get<std::vector<std::string>>("flags"))) {
    if (flag == "SECCOMP_FILTER_FLAG_LOG") {
      flags |= kLog;
    } else if (flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
      flags |= kSpecAllow;
    } else if (flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") {
      flags |= kWaitKillable;
    } else if (flag != "SECCOMP_FILTER_FLAG_TSYNC") {  // there is one thread
      return seccomp.Wrong(StrCat("flags: ", Quote(flag)));
    }
  }
  return flags;
}

// Who gets the notify descriptor: only where some rule notifies.
Result<> FinishListener(const Node& seccomp, const std::vector<SeccompRule>& rules, Seccomp& out) {
  std::string path = TRY(seccomp.Get<std::string>("listenerPath"));
  std::string metadata = TRY(seccomp.Get<std::string>("listenerMetadata"));
  if (path.empty() && !metadata.empty()) return seccomp.Wrong("listenerMetadata without listenerPath");
  bool notifies = false;
  for (const SeccompRule& rule : rules) {
    if (rule.action != SCMP_ACT_NOTIFY) continue;
    notifies = true;
    // By which the descriptor is handed over, when the filter holds already: the listener would wait for itself.
    if (std::find(rule.names.begin(), rule.names.end(), "sendmsg") != rule.names.end()) {
      return seccomp.Unsupported("syscalls: SCMP_ACT_NOTIFY for sendmsg");
    }
  }
  if (!notifies) {
    out.flags &= ~kWaitKillable;  // the kernel refuses it
    return {};
  }
  if (path.empty()) return seccomp.Wrong("SCMP_ACT_NOTIFY without listenerPath");
  out.listener_path = std::move(path);
  out.listener_metadata = std::move(metadata);
  return {};
}

// A balanced tree: a call costs log(n) comparisons, not n. libseccomp up to 2.5.4 makes nonsense of a tree without
// rules.
void Balance(const std::vector<SeccompRule>& rules, scmp_filter_ctx filter) {
  constexpr size_t kWorthIt = 32;
  size_t count = 0;
  for (const SeccompRule& rule : rules) count += rule.names.size();
  if (count > kWorthIt) seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

Result<std::string> Export(scmp_filter_ctx filter) {
  sys::UniqueFd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file.ok()) return Errno(errno, "memfd_create");
  if (int failed = seccomp_export_bpf(filter, file.get()); failed != 0) return Failed(failed, "compile linux.seccomp");
  if (lseek(file.get(), 0, SEEK_SET) != 0) return Errno(errno, "seek");
  return sys::ReadAll(file, kProgramBytesMax);
}

Result<Seccomp> CompileNow(std::string_view text) {
  Json json = TRY(ParseJson(text, "linux.seccomp"));
  Node seccomp(&json, "linux.seccomp");
  if (!json.is_object()) return seccomp.Wrong("is not an object");  // and not no filter
  uint32_t default_action = TRY(Action(seccomp, "defaultAction", "defaultErrnoRet"));
  if (default_action == SCMP_ACT_NOTIFY) return seccomp.Wrong("defaultAction SCMP_ACT_NOTIFY would stop everything");
  Filter filter(seccomp_init(default_action));
  if (filter == nullptr) return Error(Code::kInternal, "seccomp_init");
  std::vector<uint32_t> architectures = TRY(AddArchitectures(seccomp, filter.get()));
  std::vector<SeccompRule> rules;
  for (const Node& node : TRY(seccomp.Items("syscalls")))
    rules.push_back(TRY(AddRules(node, filter.get(), default_action)));
  Balance(rules, filter.get());
  Seccomp out;
  out.flags = TRY(Flags(seccomp));
  TRY(FinishListener(seccomp, rules, out));
  out.program = NewSyscallsProgram(architectures, rules, default_action);
  out.program += TRY(Export(filter.get()));
  if (out.program.size() > BPF_MAXINSNS * sizeof(sock_filter))
    return seccomp.Wrong("makes a longer program than the kernel takes");
  return out;
}

struct Kept {
  std::string text;
  Seccomp seccomp;
};

}  // namespace

Result<Seccomp> CompileSeccomp(std::string_view seccomp_json) {
  static Synchronized<std::list<Kept>> kept;  // the last used first
  {
    auto programs = kept.Lock();
    for (auto each = programs->begin(); each != programs->end(); ++each) {
      if (each->text != seccomp_json) continue;
      programs->splice(programs->begin(), *programs, each);
      return each->seccomp;
    }
  }
  Seccomp seccomp = TRY(CompileNow(seccomp_json));
  auto programs = kept.Lock();
  programs->push_front({std::string(seccomp_json), seccomp});
  if (programs->size() > kKept) programs->pop_back();
  return seccomp;
}

}  // namespace crisp::native
