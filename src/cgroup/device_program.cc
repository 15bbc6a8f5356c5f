// Device rules as a BPF program (Documentation/bpf, BPF_PROG_TYPE_CGROUP_DEVICE), put together by hand.
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "cgroup/device_rules.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

constexpr uint32_t kAllAccess = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

uint32_t AccessBits(const std::string& access) {
  uint32_t bits = 0;
  for (char c : access) bits |= c == 'm' ? BPF_DEVCG_ACC_MKNOD : c == 'r' ? BPF_DEVCG_ACC_READ : BPF_DEVCG_ACC_WRITE;
  return bits;
}

bpf_insn Instruction(unsigned code, unsigned to, unsigned from, int offset, int32_t value) {
  bpf_insn i{};
  i.code = static_cast<uint8_t>(code);
  i.dst_reg = static_cast<uint8_t>(to & 0xf);
  i.src_reg = static_cast<uint8_t>(from & 0xf);
  i.off = static_cast<int16_t>(offset);
  i.imm = value;
  return i;
}

// r1: the context; r2: type, r3: access, r4: major, r5: minor.
constexpr unsigned kType = 2, kAccess = 3, kMajor = 4, kMinor = 5, kScratch = 6;

void LoadContext(std::vector<bpf_insn>& out) {
  auto load = [&](unsigned to, size_t offset) {
    out.push_back(Instruction(BPF_LDX | BPF_W | BPF_MEM, to, 1, static_cast<int>(offset), 0));
  };
  load(kType, offsetof(bpf_cgroup_dev_ctx, access_type));
  out.push_back(Instruction(BPF_ALU | BPF_MOV | BPF_X, kAccess, kType, 0, 0));
  out.push_back(Instruction(BPF_ALU | BPF_RSH | BPF_K, kAccess, 0, 0, 16));
  out.push_back(Instruction(BPF_ALU | BPF_AND | BPF_K, kType, 0, 0, 0xffff));
  load(kMajor, offsetof(bpf_cgroup_dev_ctx, major));
  load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor));
}

void Return(std::vector<bpf_insn>& out, bool allow) {
  out.push_back(Instruction(BPF_ALU | BPF_MOV | BPF_K, 0, 0, 0, allow ? 1 : 0));
  out.push_back(Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

void AppendRule(std::vector<bpf_insn>& out, const DeviceRule& rule) {
  std::vector<bpf_insn> body;
  std::vector<size_t> leave;  // jumps to the end of the rule
  auto unless_equal = [&](unsigned reg, int64_t value) {
    leave.push_back(body.size());
    body.push_back(Instruction(BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, 0, static_cast<int32_t>(value)));
  };
  if (rule.type != 'a') unless_equal(kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  uint32_t bits = AccessBits(rule.access);
  if (bits != kAllAccess) {
    body.push_back(Instruction(BPF_ALU | BPF_MOV | BPF_X, kScratch, kAccess, 0, 0));
    // All that is asked for is allowed; any of it is denied.
    body.push_back(Instruction(BPF_ALU | BPF_AND | BPF_K, kScratch, 0, 0, static_cast<int32_t>(rule.allow ? ~bits : bits)));
    leave.push_back(body.size());
    body.push_back(Instruction(BPF_JMP32 | static_cast<unsigned>(rule.allow ? BPF_JNE : BPF_JEQ) | BPF_K, kScratch, 0, 0, 0));
  }
  if (rule.major != DeviceRule::kAny) unless_equal(kMajor, rule.major);
  if (rule.minor != DeviceRule::kAny) unless_equal(kMinor, rule.minor);
  Return(body, rule.allow);
  for (size_t at : leave) body[at].off = static_cast<int16_t>(body.size() - at - 1);
  out.insert(out.end(), body.begin(), body.end());
}

long Bpf(int command, bpf_attr& attr) { return syscall(SYS_bpf, command, &attr, sizeof attr); }

Result<sys::UniqueFd> Load(const std::vector<bpf_insn>& program) {
  constexpr char kLicense[] = "Apache-2.0";
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = reinterpret_cast<uint64_t>(program.data());
  attr.insn_cnt = static_cast<uint32_t>(program.size());
  attr.license = reinterpret_cast<uint64_t>(kLicense);
  std::memcpy(attr.prog_name, "crisp_devices", 14);
  long fd = Bpf(BPF_PROG_LOAD, attr);
  if (fd < 0) return Errno(errno, "load the program of device rules");
  return sys::UniqueFd(static_cast<int>(fd));
}

constexpr uint32_t kProgramsMax = 64;

Result<std::vector<uint32_t>> Attached(sys::BorrowedFd cgroup) {
  std::vector<uint32_t> ids(kProgramsMax);
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.query.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = reinterpret_cast<uint64_t>(ids.data());
  attr.query.prog_cnt = kProgramsMax;
  if (Bpf(BPF_PROG_QUERY, attr) != 0) return Errno(errno, "list the programs of device rules");
  ids.resize(attr.query.prog_cnt);
  return ids;
}

Result<> Detach(sys::BorrowedFd cgroup, uint32_t id) {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.prog_id = id;
  long fd = Bpf(BPF_PROG_GET_FD_BY_ID, attr);
  if (fd < 0) return errno == ENOENT ? Result<>() : Result<>(Errno(errno, "open a program of device rules"));
  sys::UniqueFd program(static_cast<int>(fd));
  std::memset(&attr, 0, sizeof attr);
  attr.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  if (Bpf(BPF_PROG_DETACH, attr) != 0 && errno != ENOENT) return Errno(errno, "detach old device rules");
  return {};
}

}  // namespace

std::vector<bpf_insn> DeviceProgram(const std::vector<DeviceRule>& rules) {
  std::vector<bpf_insn> out;
  LoadContext(out);
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    AppendRule(out, *rule);
    if (rule->ForEverything()) return out;  // what stands before it is never reached, and the verifier refuses such instructions
  }
  Return(out, false);
  return out;
}

Result<> AttachDeviceRulesV2(const std::string& dir, const std::vector<DeviceRule>& rules) {
  sys::UniqueFd cgroup = TRY(sys::Open(dir, O_RDONLY | O_DIRECTORY));
  std::vector<uint32_t> before = TRY(Attached(cgroup));
  sys::UniqueFd program = TRY(Load(DeviceProgram(Merged(rules))));
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = BPF_F_ALLOW_MULTI;
  if (Bpf(BPF_PROG_ATTACH, attr) != 0) return Errno(errno, "attach device rules");
  for (uint32_t id : before) TRY(Detach(cgroup, id));
  return {};
}

}  // namespace crisp::cgroup
