#include "cdi/spec.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/json.h"
#include "base/strings.h"
#include "codec/yaml.h"

namespace crisp::cdi {

namespace {

constexpr size_t kDevicesMax = 4096;
constexpr std::string_view kAnnotationPrefix = "cdi.k8s.io/";
constexpr std::array<std::string_view, 10> kVersions = {"0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0",
                                                        "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
constexpr std::array<std::string_view, 6> kHookNames = {"prestart",       "createRuntime", "createContainer",
                                                        "startContainer", "poststart",     "poststop"};

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAlnum(char c) { return IsLetter(c) || (c >= '0' && c <= '9'); }

Error Wrong(std::string_view what, std::string_view problem) {
  return Error(Code::kInvalidArgument, StrCat(what, ": ", problem));
}

// SPEC.md: vendors and classes begin with a letter, devices with a letter or digit; all end with a letter or digit.
bool IsName(std::string_view name, std::string_view inside, bool digit_first) {
  if (name.empty() || name.size() > 253) return false;
  if (!(digit_first ? IsAlnum(name.front()) : IsLetter(name.front())) || !IsAlnum(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return IsAlnum(c) || inside.find(c) != std::string_view::npos; });
}
bool IsVendorOrClass(std::string_view name) { return IsName(name, "_-.", false); }
bool IsDevice(std::string_view name) { return IsName(name, "_-.:", true); }

Result<> CheckKind(std::string_view kind) {
  size_t slash = kind.find('/');
  if (slash == kind.npos || !IsVendorOrClass(kind.substr(0, slash)) || !IsVendorOrClass(kind.substr(slash + 1))) {
    return Error(Code::kInvalidArgument, StrCat(Quote(kind), " is not of the form vendor/class"));
  }
  return {};
}

Result<> CheckKeys(const Json& object, std::initializer_list<std::string_view> known, std::string_view what) {
  if (!object.is_object()) return Wrong(what, "an object is wanted");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      return Wrong(what, StrCat("unknown key ", Quote(key)));
  }
  return {};
}

// The objects of list `key`; an absent or null list is empty.
Result<std::vector<const Json*>> Objects(const Json& object, const char* key, std::string_view what) {
  std::vector<const Json*> out;
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return out;
  if (!found->is_array()) return Wrong(what, StrCat(Quote(key), " is not a list"));
  for (const Json& each : *found) {
    if (!each.is_object()) return Wrong(what, StrCat(Quote(key), " holds something that is not an object"));
    out.push_back(&each);
  }
  return out;
}

Result<std::string> Path(const Json& object, const char* key, std::string_view what) {
  std::string path = TRY(JsonGet<std::string>(object, key), what);
  if (!path.starts_with("/") || path.find('\0') != std::string::npos) {
    return Wrong(what, StrCat(key, " ", Quote(path), " is not an absolute path"));
  }
  return path;
}

template <class T>
Result<std::optional<T>> Number(const Json& object, const char* key, int64_t max, std::string_view what) {
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::optional<T>();
  int64_t value = TRY(JsonGet<int64_t>(object, key), what);
  if (value < 0 || value > max) return Wrong(what, StrCat(key, " ", value, " is out of range"));
  return std::optional<T>(static_cast<T>(value));
}

Result<> CheckEnv(const std::vector<std::string>& env, std::string_view what) {
  for (const std::string& each : env) {
    size_t equals = each.find('=');
    if (equals == 0 || equals == each.npos || each.find('\0') != each.npos) {
      return Wrong(what, StrCat("environment ", Quote(each), " is not NAME=value"));
    }
  }
  return {};
}

Result<DeviceNode> ParseDeviceNode(const Json& in, std::string_view what) {
  TRY(CheckKeys(in, {"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"}, what));
  DeviceNode node;
  node.path = TRY(Path(in, "path", what));
  node.host_path = in.contains("hostPath") ? TRY(Path(in, "hostPath", what)) : node.path;
  node.type = TRY(JsonGet<std::string>(in, "type"), what);
  if (!node.type.empty() && (node.type.size() != 1 || node.type.find_first_not_of("bcup") != node.type.npos)) {
    return Wrong(what, StrCat("device ", node.path, ": no such type: ", Quote(node.type)));
  }
  node.major = TRY(Number<int64_t>(in, "major", UINT32_MAX, what));
  node.minor = TRY(Number<int64_t>(in, "minor", UINT32_MAX, what));
  node.mode = TRY(Number<uint32_t>(in, "fileMode", 07777, what));
  node.uid = TRY(Number<uint32_t>(in, "uid", UINT32_MAX, what));
  node.gid = TRY(Number<uint32_t>(in, "gid", UINT32_MAX, what));
  node.permissions = TRY(JsonGet<std::string>(in, "permissions", "rwm"), what);
  if (node.permissions.empty()) node.permissions = "rwm";
  if (node.permissions.size() > 3 || node.permissions.find_first_not_of("rwm") != std::string::npos) {
    return Wrong(what, StrCat("device ", node.path, ": permissions ", Quote(node.permissions), " are not of r, w, m"));
  }
  return node;
}

Result<Mount> ParseMount(const Json& in, std::string_view what) {
  TRY(CheckKeys(in, {"hostPath", "containerPath", "type", "options"}, what));
  Mount mount;
  mount.host_path = TRY(JsonGet<std::string>(in, "hostPath"), what);
  if (mount.host_path.empty()) return Wrong(what, "a mount without hostPath");
  mount.container_path = TRY(Path(in, "containerPath", what));
  mount.type = TRY(JsonGet<std::string>(in, "type"), what);
  mount.options = TRY(JsonGet<std::vector<std::string>>(in, "options"), what);
  return mount;
}

Result<Hook> ParseHook(const Json& in, std::string_view what) {
  TRY(CheckKeys(in, {"hookName", "path", "args", "env", "timeout"}, what));
  Hook hook;
  hook.name = TRY(JsonGet<std::string>(in, "hookName"), what);
  if (std::find(kHookNames.begin(), kHookNames.end(), hook.name) == kHookNames.end()) {
    return Wrong(what, StrCat("no such hook: ", Quote(hook.name)));
  }
  hook.path = TRY(Path(in, "path", what));
  hook.args = TRY(JsonGet<std::vector<std::string>>(in, "args"), what);
  hook.env = TRY(JsonGet<std::vector<std::string>>(in, "env"), what);
  TRY(CheckEnv(hook.env, what));
  hook.timeout_seconds = TRY(Number<int64_t>(in, "timeout", INT32_MAX, what));
  return hook;
}

Result<std::string> ParseIntelRdt(const Json& in, std::string_view what) {
  TRY(CheckKeys(
      in, {"closID", "l3CacheSchema", "memBwSchema", "schemata", "enableCMT", "enableMBM", "enableMonitoring"}, what));
  std::string clos = TRY(JsonGet<std::string>(in, "closID"), what);
  // It becomes a directory of /sys/fs/resctrl.
  if (clos.size() >= 4096 || clos == "." || clos == ".." || clos.find_first_of("/\n") != clos.npos) {
    return Wrong(what, StrCat("intelRdt.closID ", Quote(clos), " is no file name"));
  }
  for (const char* key : {"l3CacheSchema", "memBwSchema"}) (void)TRY(JsonGet<std::string>(in, key), what);
  for (const char* key : {"enableCMT", "enableMBM", "enableMonitoring"}) (void)TRY(JsonGet<bool>(in, key), what);
  (void)TRY(JsonGet<std::vector<std::string>>(in, "schemata"), what);
  return DumpJson(in);
}

Result<Edits> ParseEdits(const Json& in, std::string_view what) {
  Edits edits;
  if (in.is_null()) return edits;
  TRY(CheckKeys(in, {"env", "deviceNodes", "netDevices", "mounts", "hooks", "intelRdt", "additionalGids"}, what));
  edits.env = TRY(JsonGet<std::vector<std::string>>(in, "env"), what);
  TRY(CheckEnv(edits.env, what));
  for (const Json* each : TRY(Objects(in, "deviceNodes", what))) {
    edits.device_nodes.push_back(TRY(ParseDeviceNode(*each, what)));
  }
  for (const Json* each : TRY(Objects(in, "mounts", what))) edits.mounts.push_back(TRY(ParseMount(*each, what)));
  for (const Json* each : TRY(Objects(in, "hooks", what))) edits.hooks.push_back(TRY(ParseHook(*each, what)));
  for (const Json* each : TRY(Objects(in, "netDevices", what))) {
    TRY(CheckKeys(*each, {"hostInterfaceName", "name"}, what));
    edits.net_devices.push_back(TRY(JsonGet<std::string>(*each, "hostInterfaceName"), what));
  }
  if (auto gids = in.find("additionalGids"); gids != in.end() && !gids->is_null()) {
    if (!gids->is_array()) return Wrong(what, "additionalGids is not a list");
    for (const Json& gid : *gids) {
      if (!gid.is_number_integer() || gid.get<int64_t>() < 0 || gid.get<int64_t>() > UINT32_MAX) {
        return Wrong(what, "additionalGids holds something that is no group");
      }
      edits.additional_gids.push_back(static_cast<uint32_t>(gid.get<int64_t>()));
    }
  }
  if (auto rdt = in.find("intelRdt"); rdt != in.end() && !rdt->is_null()) {
    edits.intel_rdt_json = TRY(ParseIntelRdt(*rdt, what));
  }
  return edits;
}

Result<Edits> EditsOf(const Json& object, std::string_view what) {
  auto found = object.find("containerEdits");
  return found == object.end() ? Result<Edits>(Edits()) : ParseEdits(*found, StrCat(what, ": containerEdits"));
}

}  // namespace

Result<Spec> ParseSpec(std::string_view text, Syntax syntax, std::string_view what) {
  Json in = syntax == Syntax::kJson ? TRY(ParseJson(text, what)) : TRY(codec::ParseYaml(text, what));
  TRY(CheckKeys(in, {"cdiVersion", "kind", "annotations", "devices", "containerEdits"}, what));
  std::string version = TRY(JsonGet<std::string>(in, "cdiVersion"), what);
  std::string_view plain = version;
  if (plain.starts_with("v")) plain.remove_prefix(1);
  if (std::find(kVersions.begin(), kVersions.end(), plain) == kVersions.end()) {
    return Wrong(what, StrCat("cdiVersion ", Quote(version), " is not known"));
  }
  Spec spec;
  spec.kind = TRY(JsonGet<std::string>(in, "kind"), what);
  TRY(CheckKind(spec.kind), StrCat(what, ": kind"));
  spec.edits = TRY(EditsOf(in, what));
  std::vector<const Json*> devices = TRY(Objects(in, "devices", what));
  if (devices.empty()) return Wrong(what, "no devices");
  if (devices.size() > kDevicesMax) return Wrong(what, StrCat("more than ", kDevicesMax, " devices"));
  for (const Json* each : devices) {
    TRY(CheckKeys(*each, {"name", "annotations", "containerEdits"}, what));
    std::string name = TRY(JsonGet<std::string>(*each, "name"), what);
    if (!IsDevice(name)) return Wrong(what, StrCat(Quote(name), " is no name of a device"));
    Edits edits = TRY(EditsOf(*each, StrCat(what, ": device ", name)));
    if (!spec.devices.emplace(name, std::move(edits)).second)
      return Wrong(what, StrCat("device ", name, " a second time"));
  }
  return spec;
}

Result<DeviceName> ParseDeviceName(std::string_view qualified) {
  size_t equals = qualified.find('=');
  if (equals == qualified.npos || !CheckKind(qualified.substr(0, equals)) || !IsDevice(qualified.substr(equals + 1))) {
    return Error(Code::kInvalidArgument,
                 StrCat("CDI device ", Quote(qualified), " is not of the form vendor/class=name"));
  }
  return DeviceName{std::string(qualified.substr(0, equals)), std::string(qualified.substr(equals + 1))};
}

std::vector<std::string> DevicesOfAnnotations(const std::map<std::string, std::string>& annotations) {
  std::vector<std::string> names;
  for (const auto& [key, value] : annotations) {
    if (!key.starts_with(kAnnotationPrefix)) continue;
    for (std::string_view name : Split(value, ',')) names.emplace_back(name);
  }
  return names;
}

}  // namespace crisp::cdi
