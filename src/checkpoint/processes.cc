#include "checkpoint/processes.h"

#include <filesystem>
#include <map>
#include <utility>

#include "base/json.h"
#include "base/strings.h"
#include "checkpoint/criu_image.h"
#include "oci/seccomp.h"
#include "sys/file.h"

namespace crisp::checkpoint {

namespace {

constexpr uint32_t kCoreMagic = 0x55053847;
constexpr uint64_t kSeccompFilter = 2;  // SECCOMP_MODE_FILTER
// Four sets, each of 32-bit words, the lowest first; packed or not.
struct Capabilities {
  uint64_t bits[4] = {};
  size_t words[4] = {};

  Result<> Add(size_t set, uint64_t word) {
    size_t at = words[set]++;
    if (at > 1 && word != 0) return Bad("more capabilities than there are");
    if (at <= 1) bits[set] |= (word & 0xffffffffu) << (32 * at);
    return {};
  }
};

// A number, or several of them packed.
Result<> CheckGroups(const Fields& field, const ProcessRules& rules) {
  auto check = [&](uint64_t group) -> Result<> {
    if (rules.groups.contains(group)) return {};
    return Bad(StrCat("a process has group ", group, ", which the request does not give"));
  };
  if (!field.is_bytes) return check(field.value);
  for (Fields packed(field.bytes); !packed.empty();) {
    uint64_t group = TRY(packed.Varint());
    TRY(check(group));
  }
  return {};
}

Result<> CheckCreds(std::string_view entry, const ProcessRules& rules) {
  constexpr uint64_t kInheritable = 9, kBounding = 12, kGroups = 14, kLsmProfile = 15;
  constexpr const char* kNames[] = {"inheritable", "permitted", "effective", "bounding"};
  Capabilities caps;
  bool has_profile = false;
  for (Fields field(entry); TRY(field.Next());) {
    bool is_uid = field.number == 1 || field.number == 3 || field.number == 5 || field.number == 7;
    if (is_uid && rules.uid && field.value != *rules.uid) {
      return Bad(StrCat("a process is user ", field.value, ", and the request says ", *rules.uid));
    }
    bool is_gid =
        field.number == 2 || field.number == 4 || field.number == 6 || field.number == 8 || field.number == kGroups;
    if (is_gid && rules.uid) TRY(CheckGroups(field, rules));
    if (field.number >= kInheritable && field.number <= kBounding) {
      size_t set = field.number - kInheritable;
      if (!field.is_bytes) TRY(caps.Add(set, field.value));
      for (Fields packed(field.is_bytes ? field.bytes : ""); !packed.empty();) {
        uint64_t word = TRY(packed.Varint());
        TRY(caps.Add(set, word));
      }
    }
    if (field.number != kLsmProfile || field.bytes.empty()) continue;
    has_profile = true;
    if (field.bytes != rules.security_label) {
      return Bad(
          StrCat("a process has the security profile ", Quote(field.bytes, 256), ", which the request does not give"));
    }
  }
  if (!has_profile && !rules.security_label.empty()) {
    return Bad(StrCat("a process without the security profile ", Quote(rules.security_label, 256)));
  }
  for (size_t set = 0; set < 4; ++set) {
    uint64_t more = caps.bits[set] & ~rules.capabilities;
    if (more != 0) return Bad(StrCat("a process has ", kNames[set], " capabilities that the request does not give"));
  }
  return {};
}

struct Thread {
  std::optional<uint64_t> seccomp;
  bool has_creds = false;
};

// thread_core_entry
Result<> CheckThread(std::string_view entry, const ProcessRules& rules, Thread& thread) {
  for (Fields field(entry); TRY(field.Next());) {
    if (field.number == 10 && field.is_bytes) {
      // Whoever reads the message as a whole would see one of both.
      if (thread.has_creds) return Bad("a thread with credentials twice");
      TRY(CheckCreds(field.bytes, rules));
      thread.has_creds = true;
    }
    if (field.number == 11) thread.seccomp = field.value;
  }
  return {};
}

// core_entry
Result<> CheckEntry(std::string_view entry, const ProcessRules& rules) {
  Thread thread;
  std::optional<uint64_t> of_task;
  bool seen[16] = {};
  for (Fields field(entry); TRY(field.Next());) {
    bool once = field.number == 3 || field.number == 5;
    if (once && std::exchange(seen[field.number], true)) return Bad("a process with a part twice");
    if (field.number == 5 && field.is_bytes) TRY(CheckThread(field.bytes, rules, thread));
    if (field.number != 3 || !field.is_bytes) continue;
    for (Fields task(field.bytes); TRY(task.Next());) {
      if (task.number == 11) of_task = task.value;  // of older versions
    }
  }
  if (!thread.has_creds) return Bad("a process without credentials");
  uint64_t seccomp = thread.seccomp.value_or(of_task.value_or(0));
  if (rules.seccomp && seccomp != kSeccompFilter)
    return Bad("a process has no seccomp filter, and the request has one");
  return {};
}

// The fields of task_kobj_ids_entry that the configuration's namespaces are, new ones and those that are joined.
std::set<uint64_t> OwnNamespaces(const Json& linux_part) {
  const std::map<std::string, uint64_t> fields = {{"pid", 5}, {"network", 6}, {"ipc", 7}, {"uts", 8}, {"mount", 9}};
  std::set<uint64_t> own{fields.at("mount")};  // a container without is none
  for (const Json& each : linux_part.value("namespaces", Json::array())) {
    if (!each.is_object()) continue;
    if (auto found = fields.find(each.value("type", std::string())); found != fields.end()) own.insert(found->second);
  }
  return own;
}

using Ids = std::map<uint64_t, uint64_t>;

Result<Ids> IdsOf(std::string_view entry) {
  Ids ids;
  for (Fields field(entry); TRY(field.Next());) ids[field.number] = field.value;
  return ids;
}

// inventory_entry.root_ids: the namespaces of whoever dumped.
Result<Ids> DumpersIds(const std::string& image) {
  constexpr uint32_t kInventoryMagic = 0x58313116;
  constexpr uint64_t kRootIds = 3;
  std::optional<Ids> ids;
  auto take = [&](std::string_view entry) -> Result<> {
    for (Fields field(entry); TRY(field.Next());) {
      if (field.number != kRootIds || !field.is_bytes) continue;
      if (ids) return Bad("the dumper's namespaces twice");
      ids = TRY(IdsOf(field.bytes));
    }
    return {};
  };
  TRY(ForEachEntry(image, kInventoryMagic, take));
  if (!ids) return Bad("not a word of the dumper's namespaces");
  return *std::move(ids);
}

Result<> CheckIds(std::string_view image, const Ids& dumpers, const ProcessRules& rules) {
  constexpr uint32_t kIdsMagic = 0x54432030;
  int entries = 0;
  return ForEachEntry(image, kIdsMagic, [&](std::string_view entry) -> Result<> {
    if (++entries > 1) return Bad("namespaces twice");
    Ids ids = TRY(IdsOf(entry));
    for (uint64_t type : rules.own_namespaces) {
      const uint64_t its = ids[type], theirs = dumpers.contains(type) ? dumpers.at(type) : 0;
      if (its == 0 || theirs == 0 || its == theirs) {
        return Bad(StrCat("a process has the node's namespace of kind ", type, ", and the request gives it another"));
      }
    }
    return {};
  });
}

}  // namespace

Result<> CheckNamespaces(const std::string& images_dir, const ProcessRules& rules) {
  constexpr uint32_t kTreeMagic = 0x50273030;
  std::string inventory = TRY(sys::ReadFile(images_dir + "/inventory.img", kImageBytesMax));
  Ids dumpers = TRY(DumpersIds(inventory), "the checkpoint's inventory.img");
  std::string tree = TRY(sys::ReadFile(images_dir + "/pstree.img", kImageBytesMax));
  return ForEachEntry(tree, kTreeMagic, [&](std::string_view entry) -> Result<> {
    uint64_t pid = 0;
    for (Fields field(entry); TRY(field.Next());) {
      if (field.number == 1) pid = field.value;
    }
    std::string name = StrCat("ids-", pid, ".img");
    std::string ids = TRY(sys::ReadFile(StrCat(images_dir, "/", name), kImageBytesMax));
    TRY(CheckIds(ids, dumpers, rules), "the checkpoint's " + name);
    return {};
  });
}

Result<ProcessRules> RulesOf(std::string_view config_json) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  ProcessRules rules;
  Json process = config.value("process", Json::object());
  Json capabilities = process.value("capabilities", Json::object());
  for (const Json& name : capabilities.value("bounding", Json::array())) {
    if (!name.is_string()) return Bad("config.json: process.capabilities.bounding");
    if (auto number = oci::CapabilityNumber(name.get<std::string>())) rules.capabilities |= oci::CapabilityBit(*number);
  }
  Json linux_part = config.value("linux", Json::object());
  rules.seccomp = linux_part.contains("seccomp");
  if (process.value("noNewPrivileges", false)) {
    Json user = process.value("user", Json::object());
    rules.uid = user.value("uid", 0u);
    rules.groups.insert(user.value("gid", 0u));
    for (const Json& group : user.value("additionalGids", Json::array())) {
      if (group.is_number_unsigned()) rules.groups.insert(group.get<uint64_t>());
    }
  }
  rules.own_namespaces = OwnNamespaces(linux_part);
  rules.security_label = process.value("apparmorProfile", process.value("selinuxLabel", std::string()));
  return rules;
}

Result<> CheckProcess(std::string_view image, const ProcessRules& rules) {
  return ForEachEntry(image, kCoreMagic, [&](std::string_view entry) { return CheckEntry(entry, rules); });
}

Result<> CheckProcesses(const std::string& images_dir, const ProcessRules& rules) {
  TRY(CheckNamespaces(images_dir, rules));
  std::error_code error;
  std::filesystem::directory_iterator it(images_dir, error), end;
  for (; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with("core-") || !name.ends_with(".img")) continue;
    std::string image = TRY(sys::ReadFile(it->path().string(), kImageBytesMax));
    TRY(CheckProcess(image, rules), StrCat("the checkpoint's ", name));
  }
  return error ? Errno(error.value(), StrCat("list ", images_dir)) : Result<>();
}

}  // namespace crisp::checkpoint
