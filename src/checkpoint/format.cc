#include "checkpoint/format.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"

namespace crisp::checkpoint {

namespace {

constexpr size_t kNameBytesMax = 1024;
constexpr size_t kPathBytesMax = 4095;
constexpr size_t kMembersMax = 1000;
constexpr int kPodDumpVersion = 1;

Error Bad(std::string_view file, std::string_view why) {
  return Error(Code::kInvalidArgument, StrCat(file, ": ", why));
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Result<Json> ParseObject(std::string_view json, const char* file) {
  Json value = TRY(ParseJson(json, file, {.bytes_max = Limits().json_bytes_max, .depth_max = 32}));
  if (!value.is_object()) return Bad(file, "not an object");
  return value;
}

Result<std::string> Name(const Json& object, const char* key, const char* file) {
  std::string text = TRY(JsonGet<std::string>(object, key), file);
  if (text.size() > kNameBytesMax || HasControl(text)) return Bad(file, StrCat(key, " is no name"));
  return text;
}

// "a/b" of "/a//./b/"; nullopt for what leaves its directory or names the directory itself.
std::optional<std::string> PlainPath(std::string_view path) {
  if (path.size() > kPathBytesMax || path.find('\0') != std::string_view::npos) return std::nullopt;
  std::string plain;
  for (std::string_view part : Split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") return std::nullopt;
    if (!plain.empty()) plain += '/';
    plain += part;
  }
  if (plain.empty()) return std::nullopt;
  return plain;
}

bool IsFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == name.npos &&
         !HasControl(name);
}

}  // namespace

std::string EncodeContainerDump(const ContainerDump& dump) {
  return DumpJson({{"id", dump.id},
                   {"name", dump.name},
                   {"rootfsImage", dump.image},
                   {"rootfsImageRef", dump.image_ref},
                   {"rootfsImageName", dump.image},
                   {"runtime", dump.runtime},
                   {"createdTime", FormatRfc3339Nano(dump.created_at)},
                   {"checkpointedTime", FormatRfc3339Nano(dump.checkpointed_at)},
                   {"restored", false}});
}

Result<ContainerDump> ParseContainerDump(std::string_view json) {
  Json value = TRY(ParseObject(json, kConfigDump));
  ContainerDump dump;
  dump.id = TRY(Name(value, "id", kConfigDump));
  dump.name = TRY(Name(value, "name", kConfigDump));
  dump.image = TRY(Name(value, "rootfsImageName", kConfigDump));
  if (dump.image.empty()) dump.image = TRY(Name(value, "rootfsImage", kConfigDump));
  dump.image_ref = TRY(Name(value, "rootfsImageRef", kConfigDump));
  dump.runtime = TRY(Name(value, "runtime", kConfigDump));
  return dump;
}

std::string EncodeDeletedFiles(const std::vector<std::string>& paths) { return DumpJson(Json(paths)); }

Result<std::vector<std::string>> ParseDeletedFiles(std::string_view json, const Limits& limits) {
  Json value = TRY(ParseJson(json, kDeletedFiles, {.bytes_max = 64u << 20, .depth_max = 4}));
  std::vector<std::string> paths;
  if (value.is_null()) return paths;  // Go's empty list
  if (!value.is_array()) return Bad(kDeletedFiles, "not a list");
  if (value.size() > limits.deleted_max) return Bad(kDeletedFiles, "too many paths");
  for (const Json& each : value) {
    if (!each.is_string()) return Bad(kDeletedFiles, "not a list of paths");
    std::optional<std::string> plain = PlainPath(each.get_ref<const std::string&>());
    if (!plain)
      return Bad(kDeletedFiles, StrCat(Quote(each.get_ref<const std::string&>()), " is no path within the container"));
    paths.push_back(*std::move(plain));
  }
  return paths;
}

Result<std::vector<std::string>> ParseBindTargets(std::string_view spec_json) {
  Json spec = TRY(ParseObject(spec_json, kSpecDump));
  std::vector<std::string> targets;
  auto mounts = spec.find("mounts");
  if (mounts == spec.end() || mounts->is_null()) return targets;
  if (!mounts->is_array() || mounts->size() > 10 * kMembersMax) return Bad(kSpecDump, "mounts is no list");
  for (const Json& mount : *mounts) {
    if (!mount.is_object()) return Bad(kSpecDump, "a mount is no object");
    std::string type = TRY(JsonGet<std::string>(mount, "type"), kSpecDump);
    auto options = TRY(JsonGet<std::vector<std::string>>(mount, "options"), kSpecDump);
    auto is_bind = [](const std::string& option) { return option == "bind" || option == "rbind"; };
    if (type != "bind" && std::none_of(options.begin(), options.end(), is_bind)) continue;
    std::string target = TRY(JsonGet<std::string>(mount, "destination"), kSpecDump);
    std::optional<std::string> plain = PlainPath(target);
    if (!plain) return Bad(kSpecDump, StrCat(Quote(target), " is no mount point"));
    targets.push_back("/" + *plain);
  }
  std::sort(targets.begin(), targets.end());
  return targets;
}

std::string EncodePodDump(const PodDump& dump) {
  // "metadata" and "hostname" are what checkpointctl takes a pod's archive by.
  Json members = Json::array();
  for (const PodDump::Member& member : dump.members) {
    members.push_back({{"name", member.container}, {"archive", member.archive}});
  }
  return DumpJson({{"version", kPodDumpVersion},
                   {"id", dump.id},
                   {"metadata", {{"name", dump.name}, {"uid", dump.uid}, {"namespace", dump.pod_namespace}}},
                   {"containers", std::move(members)}});
}

Result<PodDump> ParsePodDump(std::string_view json) {
  Json value = TRY(ParseObject(json, kPodDump));
  if (TRY(JsonGet<int64_t>(value, "version")) != kPodDumpVersion) return Bad(kPodDump, "not a version that we know");
  PodDump dump;
  dump.id = TRY(Name(value, "id", kPodDump));
  if (auto metadata = value.find("metadata"); metadata != value.end()) {
    if (!metadata->is_object()) return Bad(kPodDump, "metadata is no object");
    dump.name = TRY(Name(*metadata, "name", kPodDump));
    dump.uid = TRY(Name(*metadata, "uid", kPodDump));
    dump.pod_namespace = TRY(Name(*metadata, "namespace", kPodDump));
  }
  auto containers = value.find("containers");
  if (containers == value.end() || !containers->is_array() || containers->size() > kMembersMax) {
    return Bad(kPodDump, "containers is no list");
  }
  for (const Json& each : *containers) {
    if (!each.is_object()) return Bad(kPodDump, "a container is no object");
    PodDump::Member member{TRY(Name(each, "name", kPodDump)), TRY(Name(each, "archive", kPodDump))};
    if (member.container.empty() || !IsFileName(member.archive))
      return Bad(kPodDump, "a container without name or archive");
    dump.members.push_back(std::move(member));
  }
  return dump;
}

std::optional<std::string> MemberName(std::string_view path) {
  std::optional<std::string> plain = PlainPath(path);
  if (!plain) return std::nullopt;
  for (const char* known : {kConfigDump, kSpecDump, kStatusDump, kDiffTar, kDeletedFiles}) {
    if (*plain == known) return plain;
  }
  std::string_view name = *plain;
  constexpr std::string_view kPrefix = "checkpoint/";
  if (!name.starts_with(kPrefix) || !IsFileName(name.substr(kPrefix.size()))) return std::nullopt;
  return plain;
}

std::string LastErrorOfCriuLog(std::string_view log) {
  std::string last;
  for (std::string_view line : Split(log, '\n')) {
    // "(00.759040) Error (criu/cr-dump.c:2053): Dumping FAILED."; that one says nothing.
    size_t at = line.find("Error (");
    if (at == line.npos || line.ends_with("FAILED.")) continue;
    last = std::string(line.substr(at, 512));
  }
  return last;
}

Result<std::string> UtsImage(std::string_view hostname) {
  constexpr size_t kNameBytesMax = 64;  // __NEW_UTS_LEN; so that each length below is one byte of a varint
  if (hostname.empty() || hostname.size() > kNameBytesMax) {
    return Error(Code::kInvalidArgument, StrCat("no host name: ", Quote(hostname)));
  }
  constexpr uint32_t kCommonMagic = 0x54564319, kUtsMagic = 0x54473203;
  constexpr std::string_view kNoDomain = "(none)";  // the kernel's default; required
  std::string entry;
  auto field = [&entry](char tag, std::string_view value) {
    entry += tag;
    entry += static_cast<char>(value.size());
    entry += value;
  };
  field('\x0a', hostname);   // 1: nodename
  field('\x12', kNoDomain);  // 2: domainname
  std::string image;
  for (uint32_t word : {kCommonMagic, kUtsMagic, static_cast<uint32_t>(entry.size())}) {
    for (int shift = 0; shift < 32; shift += 8) image += static_cast<char>(word >> shift & 0xff);  // little endian
  }
  return image + entry;
}

}  // namespace crisp::checkpoint
