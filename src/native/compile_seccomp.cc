#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

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

struct Free {
  void operator()(scmp_filter_ctx context) const { seccomp_release(context); }
};
using Filter = std::unique_ptr<void, Free>;

Error Failed(int negative_errno, const std::string& what) { return Errno(-negative_errno, what).As(Code::kInvalidArgument); }

Result<uint32_t> Action(const Node& node, const char* key, uint32_t error) {
  std::string name = TRY(node.Get<std::string>(key));
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(error);
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(error);
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_NOTIFY") return SCMP_ACT_NOTIFY;
  return node.Wrong(StrCat(key, " ", Quote(name)));
}

Result<scmp_compare> Operator(const Node& node) {
  static const std::map<std::string_view, scmp_compare> kNames = {
      {"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE}, {"SCMP_CMP_EQ", SCMP_CMP_EQ},
      {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  std::string name = TRY(node.Get<std::string>("op"));
  auto found = kNames.find(name);
  if (found == kNames.end()) return node.Wrong(StrCat("op ", Quote(name)));
  return found->second;
}

Result<> AddArchitectures(const Node& seccomp, scmp_filter_ctx filter) {
  for (const std::string& name : TRY(seccomp.Get<std::vector<std::string>>("architectures"))) {
    constexpr std::string_view kPrefix = "SCMP_ARCH_";
    std::string lower;
    if (name.starts_with(kPrefix)) {
      for (char c : name.substr(kPrefix.size())) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    uint32_t token = seccomp_arch_resolve_name(lower.c_str());
    if (token == 0) return seccomp.Wrong(StrCat("architectures: ", Quote(name)));
    int added = seccomp_arch_add(filter, token);
    if (added != 0 && added != -EEXIST) return Failed(added, StrCat("linux.seccomp.architectures: ", name));
  }
  return {};
}

Result<std::vector<scmp_arg_cmp>> Arguments(const Node& rule) {
  std::vector<scmp_arg_cmp> arguments;
  for (const Node& node : TRY(TRY(rule.Member("args")).Items())) {
    uint64_t index = TRY(node.Get<uint64_t>("index"));
    if (index > 5) return node.Wrong(StrCat("index ", index));
    arguments.push_back({static_cast<unsigned>(index), TRY(Operator(node)), TRY(node.Get<uint64_t>("value")),
                         TRY(node.Get<uint64_t>("valueTwo"))});
  }
  return arguments;
}

// libseccomp joins conditions on different arguments by "and" and takes one for each; several on the same argument are
// meant as "or", one rule each (as runc reads them).
Result<> AddRule(scmp_filter_ctx filter, uint32_t action, int call, const std::vector<scmp_arg_cmp>& arguments, const std::string& name) {
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

Result<> AddRules(const Node& seccomp, scmp_filter_ctx filter, uint32_t default_action) {
  for (const Node& rule : TRY(TRY(seccomp.Member("syscalls")).Items())) {
    uint32_t error = TRY(GetUint32(rule, "errnoRet", EPERM));
    uint32_t action = TRY(Action(rule, "action", error));
    if (action == default_action) continue;  // libseccomp refuses rules that change nothing
    std::vector<scmp_arg_cmp> arguments = TRY(Arguments(rule));
    std::vector<std::string> names = TRY(rule.Get<std::vector<std::string>>("names"));
    if (names.empty()) return rule.Wrong("no names");
    for (const std::string& name : names) {
      int call = seccomp_syscall_resolve_name(name.c_str());
      // A call that this kernel's architectures do not have cannot be made.
      if (call == __NR_SCMP_ERROR) continue;
      TRY(AddRule(filter, action, call, arguments, name));
    }
  }
  return {};
}

Result<> SetFlags(const Node& seccomp, scmp_filter_ctx filter, Seccomp& out) {
  constexpr uint32_t kLog = 2, kSpecAllow = 4, kWaitKillable = 32;  // SECCOMP_FILTER_FLAG_*
  for (const std::string& flag : TRY(seccomp.Get<std::vector<std::string>>("flags"))) {
    if (flag == "SECCOMP_FILTER_FLAG_LOG") {
      out.flags |= kLog;
    } else if (flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
      out.flags |= kSpecAllow;
    } else if (flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") {
      out.flags |= kWaitKillable;
    } else if (flag != "SECCOMP_FILTER_FLAG_TSYNC") {  // there is one thread
      return seccomp.Wrong(StrCat("flags: ", Quote(flag)));
    }
  }
  // A balanced tree: a call costs log(n) comparisons, not n.
  seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  return {};
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
  Seccomp out;
  uint32_t default_error = TRY(GetUint32(seccomp, "defaultErrnoRet", EPERM));
  uint32_t default_action = TRY(Action(seccomp, "defaultAction", default_error));
  if (default_action == SCMP_ACT_NOTIFY) return seccomp.Wrong("defaultAction SCMP_ACT_NOTIFY would stop everything");
  out.listener_path = TRY(seccomp.Get<std::string>("listenerPath"));
  out.listener_metadata = TRY(seccomp.Get<std::string>("listenerMetadata"));
  Filter filter(seccomp_init(default_action));
  if (filter == nullptr) return Error(Code::kInternal, "seccomp_init");
  TRY(AddArchitectures(seccomp, filter.get()));
  TRY(SetFlags(seccomp, filter.get(), out));
  TRY(AddRules(seccomp, filter.get(), default_action));
  out.program = TRY(Export(filter.get()));
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
