#include "oci/seccomp.h"

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/strings.h"
#include "oci/seccomp_default.h"

namespace crisp::oci {

namespace {

constexpr int kEnosys = 38;  // the same number on every architecture that we know
constexpr int kEperm = 1;

// The architectures whose calls a process of `arch` can make: the filter must know all of them.
std::vector<std::string> ArchFamily(std::string_view arch) {
  if (arch == "amd64") return {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  if (arch == "arm64") return {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
  if (arch == "s390x") return {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"};
  if (arch == "ppc64le") return {"SCMP_ARCH_PPC64LE"};
  if (arch == "riscv64") return {"SCMP_ARCH_RISCV64"};
  if (arch == "arm") return {"SCMP_ARCH_ARM"};
  return {};
}

bool HasWord(std::string_view words, std::string_view word) {
  auto all = SplitWords(words);
  return std::find(all.begin(), all.end(), word) != all.end();
}

bool HoldsOneOf(CapabilitySet held, std::string_view names) {
  for (std::string_view name : SplitWords(names)) {
    auto number = CapabilityNumber(name);
    if (number && (held & CapabilityBit(*number))) return true;
  }
  return false;
}

Json Rule(const std::vector<std::string_view>& names, std::string_view action = "SCMP_ACT_ALLOW") {
  return {{"names", names}, {"action", action}};
}

Json Argument(unsigned index, uint64_t value, std::string_view op, uint64_t value_two = 0) {
  Json arg = {{"index", index}, {"value", value}, {"op", op}};
  if (op == "SCMP_CMP_MASKED_EQ") arg["valueTwo"] = value_two;
  return arg;
}

}  // namespace

Json DefaultSeccomp(const SeccompSubject& subject) {
  namespace table = seccomp_default;
  std::vector<std::string_view> allowed = SplitWords(table::kAllowed);
  for (const auto& rule : table::kOnArch) {
    if (!HasWord(rule.archs, subject.arch)) continue;
    for (auto name : SplitWords(rule.syscalls)) allowed.push_back(name);
  }
  for (const auto& rule : table::kWithCapability) {
    if (!HoldsOneOf(subject.capabilities, rule.capabilities)) continue;
    for (auto name : SplitWords(rule.syscalls)) allowed.push_back(name);
  }
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());

  Json rules = Json::array({Rule(allowed)});
  for (uint64_t persona : table::kPersonalities) {
    Json rule = Rule({"personality"});
    rule["args"] = Json::array({Argument(0, persona, "SCMP_CMP_EQ")});
    rules.push_back(std::move(rule));
  }
  for (const auto& family : table::kSocketFamilies) {
    Json socket = Rule({"socket"});
    socket["args"] = Json::array({Argument(0, family.mask, "SCMP_CMP_MASKED_EQ", family.value)});
    rules.push_back(std::move(socket));
  }

  if (!(subject.capabilities & CapabilityBit(*CapabilityNumber("CAP_SYS_ADMIN")))) {
    Json clone = Rule({"clone"});
    unsigned flags_index = subject.arch == "s390x" ? 1 : 0;  // CONFIG_CLONE_BACKWARDS2 swaps the first two arguments
    clone["args"] = Json::array({Argument(flags_index, table::kCloneNamespaceFlags, "SCMP_CMP_MASKED_EQ", 0)});
    rules.push_back(std::move(clone));
    Json clone3 = Rule({"clone3"}, "SCMP_ACT_ERRNO");  // its flags lie in memory, where a filter cannot look
    clone3["errnoRet"] = kEnosys;
    rules.push_back(std::move(clone3));
  }
  return {{"defaultAction", "SCMP_ACT_ERRNO"},
          {"defaultErrnoRet", kEperm},
          {"architectures", ArchFamily(subject.arch)},
          {"syscalls", std::move(rules)}};
}

namespace {

constexpr std::array<std::string_view, 9> kActions = {"SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                                                      "SCMP_ACT_TRAP",  "SCMP_ACT_ERRNO",        "SCMP_ACT_TRACE",
                                                      "SCMP_ACT_ALLOW", "SCMP_ACT_LOG",          "SCMP_ACT_NOTIFY"};
constexpr std::array<std::string_view, 7> kOperators = {
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};

template <size_t N>
bool IsOneOf(const std::array<std::string_view, N>& all, std::string_view text) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

Error Bad(std::string message) { return Error(Code::kInvalidArgument, std::move(message)); }

Result<> CheckAction(const Json& object, bool required) {
  std::string action = TRY(JsonGet<std::string>(object, "action"));
  if (action.empty() && !required) return {};
  if (!IsOneOf(kActions, action)) return Bad(StrCat("no such action ", Quote(action)));
  if (action == "SCMP_ACT_NOTIFY") return Bad("action SCMP_ACT_NOTIFY needs a listener, which crisp does not offer");
  return {};
}

Result<Json> CheckedArgs(const Json& rule) {
  Json out = Json::array();
  auto args = rule.find("args");
  if (args == rule.end() || args->is_null()) return out;
  if (!args->is_array()) return Bad("\"args\" is not a list");
  for (const Json& arg : *args) {
    uint64_t index = TRY(JsonGet<uint64_t>(arg, "index"));
    uint64_t value = TRY(JsonGet<uint64_t>(arg, "value"));
    uint64_t value_two = TRY(JsonGet<uint64_t>(arg, "valueTwo"));
    std::string op = TRY(JsonGet<std::string>(arg, "op"));
    if (index > 5) return Bad(StrCat("argument index ", index, " is more than 5"));
    if (!IsOneOf(kOperators, op)) return Bad(StrCat("no such operator ", Quote(op)));
    out.push_back({{"index", index}, {"value", value}, {"valueTwo", value_two}, {"op", op}});
  }
  return out;
}

struct Condition {
  std::vector<std::string> archs, caps;
};

Result<Condition> ConditionOf(const Json& rule, const char* member) {
  Condition condition;
  auto found = rule.find(member);
  if (found == rule.end() || found->is_null()) return condition;
  condition.archs = TRY(JsonGet<std::vector<std::string>>(*found, "arches"));
  condition.caps = TRY(JsonGet<std::vector<std::string>>(*found, "caps"));
  return condition;
}

bool ArchListed(const Condition& condition, std::string_view arch) {
  return std::find(condition.archs.begin(), condition.archs.end(), arch) != condition.archs.end();
}

bool HasCapability(const SeccompSubject& subject, const std::string& name) {
  auto number = CapabilityNumber(name);
  return number && (subject.capabilities & CapabilityBit(*number));
}

// Docker's rules count only for some capabilities and machines. "minKernel" is not looked at: every kernel that crisp
// runs on is newer than any value in use.
Result<bool> Applies(const Json& rule, const SeccompSubject& subject) {
  Condition includes = TRY(ConditionOf(rule, "includes"));
  Condition excludes = TRY(ConditionOf(rule, "excludes"));
  if (!includes.archs.empty() && !ArchListed(includes, subject.arch)) return false;
  if (ArchListed(excludes, subject.arch)) return false;
  auto held = [&](const std::string& name) { return HasCapability(subject, name); };
  if (!std::all_of(includes.caps.begin(), includes.caps.end(), held)) return false;
  return std::none_of(excludes.caps.begin(), excludes.caps.end(), held);
}

Result<Json> CheckedRule(const Json& rule) {
  std::vector<std::string> names = TRY(JsonGet<std::vector<std::string>>(rule, "names"));
  std::string name = TRY(JsonGet<std::string>(rule, "name"));
  if (!name.empty()) names.push_back(name);  // the form of Docker before 1.13
  if (names.empty()) return Bad("a rule without names");
  for (const std::string& each : names) {
    if (each.empty() || each.size() > 64) return Bad(StrCat("bad system call name ", Quote(each)));
  }
  TRY(CheckAction(rule, true));
  Json out = {{"names", names}, {"action", rule["action"]}};
  if (rule.contains("errnoRet") && !rule["errnoRet"].is_null())
    out["errnoRet"] = TRY(JsonGet<uint64_t>(rule, "errnoRet"));
  Json args = TRY(CheckedArgs(rule));
  if (!args.empty()) out["args"] = std::move(args);
  return out;
}

// Docker's archMap: the entry whose architecture is ours, with its sub-architectures.
Result<std::vector<std::string>> Architectures(const Json& profile, const SeccompSubject& subject) {
  std::vector<std::string> listed = TRY(JsonGet<std::vector<std::string>>(profile, "architectures"));
  auto map = profile.find("archMap");
  if (map == profile.end() || map->is_null()) return listed;
  if (!listed.empty()) return Bad("both \"architectures\" and \"archMap\"");
  if (!map->is_array()) return Bad("\"archMap\" is not a list");
  auto family = ArchFamily(subject.arch);
  for (const Json& entry : *map) {
    std::string arch = TRY(JsonGet<std::string>(entry, "architecture"));
    if (family.empty() || arch != family[0]) continue;
    std::vector<std::string> all = {arch};
    for (std::string& sub : TRY(JsonGet<std::vector<std::string>>(entry, "subArchitectures")))
      all.push_back(std::move(sub));
    return all;
  }
  return listed;
}

Result<Json> ParseProfile(std::string_view text, const SeccompSubject& subject) {
  Json profile = TRY(ParseJson(text, "text", {.bytes_max = 1u << 20, .depth_max = 16}));
  if (!profile.is_object()) return Bad("not a JSON object");
  std::string action = TRY(JsonGet<std::string>(profile, "defaultAction"));
  if (action.empty()) return Bad("no \"defaultAction\"");
  TRY(CheckAction({{"action", action}}, true));
  Json out = {{"defaultAction", action}};
  if (profile.contains("defaultErrnoRet") && !profile["defaultErrnoRet"].is_null()) {
    out["defaultErrnoRet"] = TRY(JsonGet<uint64_t>(profile, "defaultErrnoRet"));
  }
  std::vector<std::string> archs = TRY(Architectures(profile, subject));
  for (const std::string& arch : archs) {
    if (!arch.starts_with("SCMP_ARCH_")) return Bad(StrCat("no such architecture ", Quote(arch)));
  }
  if (!archs.empty()) out["architectures"] = archs;
  std::vector<std::string> flags = TRY(JsonGet<std::vector<std::string>>(profile, "flags"));
  if (!flags.empty()) out["flags"] = flags;
  if (profile.contains("listenerPath") && !profile["listenerPath"].is_null()) {
    return Bad("\"listenerPath\" is not offered by crisp");
  }
  auto rules = profile.find("syscalls");
  if (rules == profile.end() || rules->is_null()) return out;
  if (!rules->is_array()) return Bad("\"syscalls\" is not a list");
  out["syscalls"] = Json::array();
  for (const Json& rule : *rules) {
    if (!rule.is_object()) return Bad("a rule is not an object");
    if (!TRY(Applies(rule, subject))) continue;
    out["syscalls"].push_back(TRY(CheckedRule(rule)));
  }
  return out;
}

}  // namespace

Result<Json> ParseSeccomp(std::string_view text, const SeccompSubject& subject) {
  if (Trim(text).empty()) return Bad("seccomp profile: the file is empty");
  return TRY(ParseProfile(text, subject), "seccomp profile");
}

}  // namespace crisp::oci
