#include "checkpoint/processes.h"

#include <filesystem>

#include "base/json.h"
#include "base/strings.h"
#include "oci/seccomp.h"
#include "sys/file.h"

namespace crisp::checkpoint {

namespace {

constexpr uint32_t kCommonMagic = 0x54564319, kCoreMagic = 0x55053847;
constexpr uint64_t kSeccompFilter = 2;  // SECCOMP_MODE_FILTER
constexpr size_t kImageBytesMax = 4u << 20;

Error Bad(std::string_view why) { return Error(Code::kInvalidArgument, std::string(why)); }

// A protobuf message, field after field.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}
  uint64_t number = 0, value = 0;  // of a varint or a fixed field
  std::string_view bytes;          // of one with a length
  bool is_bytes = false;

  Result<bool> Next() {
    if (rest_.empty()) return false;
    uint64_t key = TRY(Varint());
    number = key >> 3;
    is_bytes = false;
    switch (key & 7) {
      case 0: value = TRY(Varint()); return true;
      case 1: return Skip(8);
      case 5: return Skip(4);
      case 2: {
        uint64_t length = TRY(Varint());
        if (length > rest_.size()) return Bad("a field is cut off");
        bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        is_bytes = true;
        return true;
      }
      default: return Bad("a field of an unknown kind");
    }
  }
  Result<uint64_t> Varint() {
    uint64_t out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return Bad("a number is cut off");
      auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      out |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return out;
    }
    return Bad("a number without end");
  }
  bool empty() const { return rest_.empty(); }

 private:
  Result<bool> Skip(size_t n) {
    if (rest_.size() < n) return Bad("a field is cut off");
    rest_.remove_prefix(n);
    value = 0;
    return true;
  }
  std::string_view rest_;
};

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

Result<> CheckCreds(std::string_view entry, const ProcessRules& rules) {
  constexpr uint64_t kInheritable = 9, kBounding = 12, kLsmProfile = 15;
  constexpr const char* kNames[] = {"inheritable", "permitted", "effective", "bounding"};
  Capabilities caps;
  for (Fields field(entry); TRY(field.Next());) {
    bool is_uid = field.number == 1 || field.number == 3 || field.number == 5 || field.number == 7;
    if (is_uid && rules.uid && field.value != *rules.uid) {
      return Bad(StrCat("a process is user ", field.value, ", and the request says ", *rules.uid));
    }
    if (field.number >= kInheritable && field.number <= kBounding) {
      size_t set = field.number - kInheritable;
      if (!field.is_bytes) TRY(caps.Add(set, field.value));
      for (Fields packed(field.is_bytes ? field.bytes : ""); !packed.empty();) {
        uint64_t word = TRY(packed.Varint());
        TRY(caps.Add(set, word));
      }
    }
    if (field.number == kLsmProfile && !field.bytes.empty() && field.bytes != rules.security_label) {
      return Bad(StrCat("a process has the security profile ", Quote(field.bytes, 256), ", which the request does not give"));
    }
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
  for (Fields field(entry); TRY(field.Next());) {
    if (field.number == 5 && field.is_bytes) TRY(CheckThread(field.bytes, rules, thread));
    if (field.number != 3 || !field.is_bytes) continue;
    for (Fields task(field.bytes); TRY(task.Next());) {
      if (task.number == 11) of_task = task.value;  // of older versions
    }
  }
  if (!thread.has_creds) return Bad("a process without credentials");
  uint64_t seccomp = thread.seccomp.value_or(of_task.value_or(0));
  if (rules.seccomp && seccomp != kSeccompFilter) return Bad("a process has no seccomp filter, and the request has one");
  return {};
}

uint32_t Word(std::string_view bytes) {
  uint32_t out = 0;
  for (int i = 3; i >= 0; --i) out = out << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return out;
}

}  // namespace

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
  if (process.value("noNewPrivileges", false)) rules.uid = process.value("user", Json::object()).value("uid", 0u);
  rules.security_label = process.value("apparmorProfile", process.value("selinuxLabel", std::string()));
  return rules;
}

Result<> CheckProcess(std::string_view image, const ProcessRules& rules) {
  if (image.size() >= 4 && Word(image) == kCommonMagic) image.remove_prefix(4);
  if (image.size() < 4 || Word(image) != kCoreMagic) return Bad("no image of a process");
  image.remove_prefix(4);
  if (image.empty()) return Bad("an empty image of a process");
  while (!image.empty()) {
    if (image.size() < 4 || Word(image) > image.size() - 4) return Bad("an image of a process is cut off");
    uint32_t size = Word(image);
    TRY(CheckEntry(image.substr(4, size), rules));
    image.remove_prefix(4 + size_t{size});
  }
  return {};
}

Result<> CheckProcesses(const std::string& images_dir, const ProcessRules& rules) {
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
