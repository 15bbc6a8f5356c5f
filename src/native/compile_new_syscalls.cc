// System calls that are newer than libseccomp, or than the profile.
//
// A profile names calls that the libseccomp of a distribution does not know yet: it cannot make rules for them, so the
// default would hold, often EPERM; and a C library that tries fchmodat2(2) first falls back on ENOSYS only. All of them
// have the same number everywhere (since Linux 5.1 calls are added to all architectures at once), so their rules are
// made here. And what is newer than everything that a profile names was not known to who wrote it, who could not mean
// to refuse it: such a call answers ENOSYS, as if the kernel did not have it (as runc does).
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>

#include "native/compile_parts.h"

namespace crisp::native {

namespace {

struct Call {
  std::string_view name;
  uint32_t number;
};
// arch/x86/entry/syscalls/syscall_64.tbl from Linux 6.5 on; libseccomp 2.5 ends before.
constexpr std::array kNewCalls = std::to_array<Call>(
    {{"cachestat", 451},         {"fchmodat2", 452},         {"map_shadow_stack", 453}, {"futex_wake", 454},
     {"futex_wait", 455},        {"futex_requeue", 456},     {"statmount", 457},        {"listmount", 458},
     {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
     {"setxattrat", 463},        {"getxattrat", 464},        {"listxattrat", 465},      {"removexattrat", 466},
     {"open_tree_attr", 467},    {"file_getattr", 468},      {"file_setattr", 469},     {"listns", 470}});

std::optional<uint32_t> NumberOfNewCall(std::string_view name) {
  for (const Call& call : kNewCalls) {
    if (call.name == name) return call.number;
  }
  return std::nullopt;
}

// Those that count from 0 (MIPS does not). x32's calls are x86_64's with a bit, and keep to the filter.
bool HasCommonNumbers(uint32_t architecture) {
  constexpr std::array<uint32_t, 10> kSome = {SCMP_ARCH_X86_64, SCMP_ARCH_X86,     SCMP_ARCH_AARCH64, SCMP_ARCH_ARM,
                                              SCMP_ARCH_PPC64,  SCMP_ARCH_PPC64LE, SCMP_ARCH_S390,    SCMP_ARCH_S390X,
                                              SCMP_ARCH_PPC,    SCMP_ARCH_RISCV64};
  return std::find(kSome.begin(), kSome.end(), architecture) != kSome.end();
}

using Program = std::vector<sock_filter>;

constexpr uint32_t kToTheEnd = UINT32_MAX;  // a jump whose way is known when the program is complete

void Load(Program& out, size_t offset) {
  out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)));
}
void Return(Program& out, uint32_t action) { out.push_back(BPF_STMT(BPF_RET | BPF_K, action)); }
void Leave(Program& out) { out.push_back(BPF_STMT(BPF_JMP | BPF_JA, kToTheEnd)); }
// The next instruction is passed over unless the condition holds.
void If(Program& out, uint16_t condition, uint32_t value, uint8_t skipped = 1) {
  out.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | condition | BPF_K), value, 0, skipped));
}

struct KnownCalls {
  std::optional<uint32_t> last;                        // the greatest number that the profile names
  std::vector<std::pair<uint32_t, uint32_t>> answers;  // number, action: of what libseccomp does not know
};

KnownCalls CallsOf(uint32_t architecture, const std::vector<SeccompRule>& rules, uint32_t default_action) {
  KnownCalls known;
  auto see = [&](uint32_t number) { known.last = std::max(known.last.value_or(0), number); };
  for (const SeccompRule& rule : rules) {
    for (const std::string& name : rule.names) {
      int number = seccomp_syscall_resolve_name_arch(architecture, name.c_str());
      if (number >= 0) see(static_cast<uint32_t>(number));
      if (number != __NR_SCMP_ERROR || !HasCommonNumbers(architecture)) continue;
      std::optional<uint32_t> new_call = NumberOfNewCall(name);
      // What a rule says about arguments nothing here could check.
      if (!new_call || rule.conditional) continue;
      see(*new_call);
      bool said = std::any_of(known.answers.begin(), known.answers.end(),
                              [&](const auto& each) { return each.first == *new_call; });
      if (!said && rule.action != default_action) known.answers.emplace_back(*new_call, rule.action);
    }
  }
  return known;
}

Program ProgramOf(uint32_t architecture, const KnownCalls& known, bool refuse_newer) {
  uint32_t first = refuse_newer && known.last ? *known.last + 1 : UINT32_MAX;
  for (const auto& [number, action] : known.answers) first = std::min(first, number);
  Program out;
  if (first == UINT32_MAX) return out;
  Load(out, offsetof(seccomp_data, nr));
  if (architecture == SCMP_ARCH_X86_64) {
    constexpr uint32_t kX32Bit = 0x40000000;
    If(out, BPF_JSET, kX32Bit);
    Leave(out);
  }
  // Nearly all calls leave here.
  out.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 1, 0));
  Leave(out);
  for (const auto& [number, action] : known.answers) {
    If(out, BPF_JEQ, number);
    Return(out, action);
  }
  if (refuse_newer && known.last) {
    If(out, BPF_JGT, *known.last);
    Return(out, SECCOMP_RET_ERRNO | ENOSYS);
  }
  Leave(out);
  return out;
}

// A default that lets calls through needs no help; a tracer is meant to know what it does.
bool LetsThrough(uint32_t action) {
  return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG || (action & SECCOMP_RET_ACTION) == SECCOMP_RET_TRACE;
}

}  // namespace

std::string NewSyscallsProgram(const std::vector<uint32_t>& architectures, const std::vector<SeccompRule>& rules,
                               uint32_t default_action) {
  static_assert(2 * kNewCalls.size() + 8 <= UINT8_MAX, "a conditional jump passes over 255 instructions");
  Program program;
  Load(program, offsetof(seccomp_data, arch));
  for (uint32_t architecture : architectures) {
    if (architecture == SCMP_ARCH_X32) continue;
    Program part = ProgramOf(architecture, CallsOf(architecture, rules, default_action), !LetsThrough(default_action));
    if (part.empty()) continue;
    If(program, BPF_JEQ, architecture, static_cast<uint8_t>(part.size()));  // libseccomp's numbers are AUDIT_ARCH_*
    program.insert(program.end(), part.begin(), part.end());
  }
  if (program.size() == 1) return {};
  for (size_t i = 0; i < program.size(); ++i) {
    if (program[i].code == (BPF_JMP | BPF_JA) && program[i].k == kToTheEnd)
      program[i].k = static_cast<uint32_t>(program.size() - i - 1);
  }
  return std::string(reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter));
}

}  // namespace crisp::native
