#include "cdi/inject.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::cdi {

namespace {

// Member `key` as a list, made when it is absent. `object` is of our own making.
Json& ListOf(Json& object, const char* key) {
  Json& list = object[key];
  if (!list.is_array()) list = Json::array();
  return list;
}

void EraseWhere(Json& list, const char* key, const std::string& value) {
  auto same = [&](const Json& each) { return each.is_object() && each.value(key, "") == value; };
  list.erase(std::remove_if(list.begin(), list.end(), same), list.end());
}

void SetEnv(Json& process, const std::string& variable) {
  std::string start = variable.substr(0, variable.find('=') + 1);
  Json& env = ListOf(process, "env");
  for (Json& each : env) {
    if (each.is_string() && each.get_ref<const std::string&>().starts_with(start)) {
      each = variable;
      return;
    }
  }
  env.push_back(variable);
}

void AddDevice(Json& config, const DeviceNode& node) {
  Json& devices = ListOf(config["linux"], "devices");
  EraseWhere(devices, "path", node.path);
  Json device = {{"path", node.path}, {"type", node.type}};
  if (node.major) device["major"] = *node.major;
  if (node.minor) device["minor"] = *node.minor;
  if (node.mode) device["fileMode"] = *node.mode;
  const Json& user = config["process"]["user"];
  device["uid"] = node.uid ? *node.uid : user.value("uid", 0u);
  device["gid"] = node.gid ? *node.gid : user.value("gid", 0u);
  bool userns = !config["linux"].value("uidMappings", Json::array()).empty();
  if (userns && !node.host_path.empty() && node.host_path != node.path) {
    // No nodes can be made in a user namespace; runtimes bind the node's own of the same path instead, which would be
    // none or another device (as spec/devices.cc).
    EraseWhere(ListOf(config, "mounts"), "destination", node.path);
    config["mounts"].push_back({{"destination", node.path},
                                {"type", "bind"},
                                {"source", node.host_path},
                                {"options", {"bind", "rprivate", "nosuid", "noexec"}}});
  } else {
    devices.push_back(std::move(device));
  }
  if (node.type == "p") return;
  Json rule = {{"allow", true}, {"type", node.type == "b" ? "b" : "c"}, {"access", node.permissions}};
  if (node.major) rule["major"] = *node.major;
  if (node.minor) rule["minor"] = *node.minor;
  ListOf(config["linux"]["resources"], "devices").push_back(std::move(rule));
}

// A mount goes before those that lie below it, else it would hide them.
void AddMount(Json& config, const Mount& mount) {
  Json& mounts = ListOf(config, "mounts");
  EraseWhere(mounts, "destination", mount.container_path);
  std::vector<std::string> options = mount.options;
  bool bind = mount.type.empty() || mount.type == "bind";
  auto is_bind = [](const std::string& option) { return option == "bind" || option == "rbind"; };
  if (bind && std::none_of(options.begin(), options.end(), is_bind)) options.push_back("rbind");
  Json entry = {{"destination", mount.container_path},
                {"source", mount.host_path},
                {"type", bind ? "bind" : mount.type},
                {"options", options}};
  std::string below = mount.container_path == "/" ? "/" : mount.container_path + "/";
  auto first_below = std::find_if(mounts.begin(), mounts.end(), [&](const Json& each) {
    return each.is_object() && each.value("destination", "").starts_with(below);
  });
  mounts.insert(first_below, std::move(entry));
}

void AddHook(Json& config, const Hook& hook) {
  Json entry = {{"path", hook.path}};
  if (!hook.args.empty()) entry["args"] = hook.args;
  if (!hook.env.empty()) entry["env"] = hook.env;
  if (hook.timeout_seconds) entry["timeout"] = *hook.timeout_seconds;
  ListOf(config["hooks"], hook.name.c_str()).push_back(std::move(entry));
}

void AddGroup(Json& config, uint32_t gid) {
  Json& groups = ListOf(config["process"]["user"], "additionalGids");
  // SPEC.md: group 0 is ignored, so that nobody gets root's group by an unset number.
  if (gid != 0 && std::find(groups.begin(), groups.end(), Json(gid)) == groups.end()) groups.push_back(gid);
}

}  // namespace

Result<std::string> Inject(const std::string& config_json, const std::vector<Edits>& edits) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  if (!config.is_object() || !config["process"].is_object() || !config["linux"].is_object()) {
    return Error(Code::kInternal, "config.json lacks its objects");
  }
  if (!config["process"]["user"].is_object()) config["process"]["user"] = Json::object();
  for (const Edits& each : edits) {
    if (!each.net_devices.empty()) {
      return Error(Code::kUnimplemented, StrCat("CDI network device ", Quote(each.net_devices.front()),
                                                ": moving network devices into a container is not supported"));
    }
    for (const std::string& variable : each.env) SetEnv(config["process"], variable);
    for (const DeviceNode& node : each.device_nodes) AddDevice(config, node);
    for (const Mount& mount : each.mounts) AddMount(config, mount);
    for (const Hook& hook : each.hooks) AddHook(config, hook);
    for (uint32_t gid : each.additional_gids) AddGroup(config, gid);
    if (!each.intel_rdt_json.empty()) config["linux"]["intelRdt"] = TRY(ParseJson(each.intel_rdt_json, "intelRdt"));
  }
  return DumpJson(config);
}

}  // namespace crisp::cdi
