// update: new limits of a container.
#include <cmath>

#include "base/json.h"
#include "base/strings.h"
#include "ocicli/commands.h"
#include "sys/file.h"

namespace crisp::ocicli {

namespace {

// A flag's place in linux.resources.
struct Target {
  const char *flag, *part, *member;
  enum Kind { kNumber, kBytes, kText } kind;
};
constexpr Target kTargets[] = {
    {"blkio-weight", "blockIO", "weight", Target::kNumber},
    {"cpu-period", "cpu", "period", Target::kNumber},
    {"cpu-quota", "cpu", "quota", Target::kNumber},
    {"cpu-burst", "cpu", "burst", Target::kNumber},
    {"cpu-share", "cpu", "shares", Target::kNumber},
    {"cpu-rt-period", "cpu", "realtimePeriod", Target::kNumber},
    {"cpu-rt-runtime", "cpu", "realtimeRuntime", Target::kNumber},
    {"cpu-idle", "cpu", "idle", Target::kNumber},
    {"cpuset-cpus", "cpu", "cpus", Target::kText},
    {"cpuset-mems", "cpu", "mems", Target::kText},
    {"memory", "memory", "limit", Target::kBytes},
    {"memory-reservation", "memory", "reservation", Target::kBytes},
    {"memory-swap", "memory", "swap", Target::kBytes},
    {"kernel-memory", "memory", "kernel", Target::kBytes},
    {"kernel-memory-tcp", "memory", "kernelTCP", Target::kBytes},
    {"pids-limit", "pids", "limit", Target::kNumber},
};

Result<Json> ReadResources(const std::string& file) {
  std::string text = TRY(file == "-" ? sys::ReadAll(sys::BorrowedFd(0), 4u << 20) : sys::ReadFile(file));
  Json json = TRY(ParseJson(text, "resources"));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "resources: not an object");
  // An update is of limits: which devices a container may use stays as it was made (as with runc).
  json.erase("devices");
  return json;
}

Result<int> Update(Session& session, const Flags& flags) {
  for (const char* rdt : {"l3-cache-schema", "mem-bw-schema"}) {
    if (flags.Has(rdt)) return Error(Code::kUnimplemented, StrCat("--", rdt, ": no Intel RDT"));
  }
  sys::UniqueFd lock = TRY(session.store.Lock(flags.words()[0]));
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::string status = StatusOf(session, record);
  if (status == "stopped") return Error(Code::kFailedPrecondition, "cannot update a container that is stopped");
  std::string resources = TRY(ResourcesOfFlags(flags));
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  TRY(cgroups->UpdateResources(record.cgroup_path, resources));
  return 0;
}

}  // namespace

Result<int64_t> ParseBytes(const std::string& text) {
  std::string_view digits = text;
  if (!digits.empty() && (digits.back() == 'b' || digits.back() == 'B')) digits.remove_suffix(1);
  int shift = 0;
  if (!digits.empty()) {
    constexpr std::string_view kUnits = "kmgtp";
    size_t unit = kUnits.find(static_cast<char>(digits.back() | 0x20));
    if (unit != std::string_view::npos) {
      shift = 10 * static_cast<int>(unit + 1);
      digits.remove_suffix(1);
    }
  }
  auto number = ParseInt<int64_t>(digits);
  if (!number || *number < -1 || *number > INT64_MAX >> shift || (*number < 0 && shift > 0)) {
    return Error(Code::kInvalidArgument, StrCat(Quote(text), " is not a number of bytes"));
  }
  return *number << shift;
}

Result<std::string> ResourcesOfFlags(const Flags& flags) {
  Json out = Json::object();
  if (flags.Has("resources")) out = TRY(ReadResources(flags.Text("resources")));
  for (const Target& target : kTargets) {
    if (!flags.Has(target.flag)) continue;
    Json& member = out[target.part][target.member];
    if (target.kind == Target::kText) {
      member = flags.Text(target.flag);
    } else if (target.kind == Target::kBytes) {
      member = TRY(ParseBytes(flags.Text(target.flag)), StrCat("--", target.flag));
    } else {
      member = TRY(flags.Number(target.flag, 0));
    }
  }
  return DumpJson(out);
}

const std::vector<FlagSpec>& UpdateFlags() {
  static const std::vector<FlagSpec> kFlags = [] {
    std::vector<FlagSpec> flags = {{"resources,r", FlagSpec::kText, "file with linux.resources, - for stdin"}};
    for (const Target& target : kTargets) {
      flags.push_back({std::string_view(target.flag) == "memory" ? "memory,m" : target.flag, FlagSpec::kText,
                       target.kind == Target::kBytes ? "bytes, also as 100m" : target.member});
    }
    flags.push_back({"l3-cache-schema", FlagSpec::kText, "refused"});
    flags.push_back({"mem-bw-schema", FlagSpec::kText, "refused"});
    return flags;
  }();
  return kFlags;
}

std::vector<Command> UpdateCommands() {
  return {{"update", "<container>", "change limits", 1, 1, UpdateFlags(), Update}};
}

}  // namespace crisp::ocicli
