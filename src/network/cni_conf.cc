#include "network/cni_conf.h"

#include <dirent.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "network/cni_result.h"
#include "sys/ip.h"

namespace crisp::network {

namespace {

Error Bad(std::string text) { return Error(Code::kInvalidArgument, std::move(text)); }

// Names of networks and plugins: start with a letter or digit, then letters, digits, '_', '.', '-'. They become parts
// of paths.
Result<> CheckName(std::string_view name, const char* what) {
  auto alnum = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  bool good = !name.empty() && name.size() <= 128 && alnum(name[0]) &&
              std::ranges::all_of(name, [&](char c) { return alnum(c) || c == '_' || c == '.' || c == '-'; });
  if (!good) return Bad(StrCat(what, " ", Quote(name, 64), " is not a plain name"));
  return {};
}

Result<PluginConf> ParsePlugin(const Json& json) {
  PluginConf plugin;
  plugin.type = TRY(JsonGet<std::string>(json, "type"));
  TRY(CheckName(plugin.type, "plugin type"));
  if (auto ipam = json.find("ipam"); ipam != json.end() && !ipam->is_null()) {
    std::string type = TRY(JsonGet<std::string>(*ipam, "type"), "ipam");
    if (!type.empty()) TRY(CheckName(type, "ipam type"));
  }
  if (auto found = json.find("capabilities"); found != json.end() && !found->is_null()) {
    if (!found->is_object()) return Bad("member \"capabilities\" is not an object");
    for (const auto& [name, value] : found->items()) {
      if (!value.is_boolean()) return Bad(StrCat("capability ", Quote(name), " is not true or false"));
      if (value.get<bool>()) plugin.capabilities.push_back(name);
    }
  }
  plugin.conf = json;
  return plugin;
}

// "cniVersions" (specification 1.1): the highest that we speak counts.
Result<std::string> ChooseVersion(const Json& json) {
  std::string version = TRY(JsonGet<std::string>(json, "cniVersion"));
  std::vector<std::string> offered = TRY(JsonGet<std::vector<std::string>>(json, "cniVersions"));
  if (!version.empty()) offered.push_back(version);
  if (offered.empty()) offered.push_back("0.1.0");
  std::string best;
  for (const std::string& candidate : offered) {
    if (KnownCniVersion(candidate) && (best.empty() || CniVersionAtLeast(candidate, best))) best = candidate;
  }
  if (best.empty()) return Bad(StrCat("CNI version ", Quote(Join(offered, ", ")), " is not supported"));
  return best;
}

// true, false, or the same as text: libcni takes both for "disableCheck".
Result<bool> LooseBool(const Json& json, const char* key) {
  auto found = json.find(key);
  if (found != json.end() && found->is_string()) {
    const std::string text = found->get<std::string>();
    if (text == "true" || text == "false") return text == "true";
  }
  return JsonGet<bool>(json, key);
}

bool HasConfName(std::string_view name) {
  return name.ends_with(".conflist") || name.ends_with(".conf") || name.ends_with(".json");
}

Result<std::vector<std::string>> SortedNames(const std::string& dir, bool (*wanted)(std::string_view)) {
  DIR* stream = opendir(dir.c_str());
  if (stream == nullptr) return Errno(errno, "open directory " + dir);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    if (wanted(entry->d_name)) names.push_back(entry->d_name);
  }
  closedir(stream);
  std::ranges::sort(names);
  return names;
}

Result<std::string> ReadConfFile(const std::string& path) {
  // Not blocking: a FIFO put here must not hang us.
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return Errno(errno, "stat " + path);
  if (!S_ISREG(status.st_mode)) return Bad(path + " is not a regular file");
  if (status.st_size > static_cast<off_t>(kConfBytesMax)) return Bad(StrCat(path, " is bigger than ", kConfBytesMax, " bytes"));
  return sys::ReadAll(fd, kConfBytesMax);
}

}  // namespace

Result<NetworkConf> ParseNetworkConf(std::string_view text, std::string_view what) {
  Json json = TRY(ParseJson(text, what, {.bytes_max = kConfBytesMax, .depth_max = 32}));
  if (!json.is_object()) return Bad(StrCat(what, ": not an object"));
  NetworkConf conf;
  conf.name = TRY(JsonGet<std::string>(json, "name"), what);
  TRY(CheckName(conf.name, "network name"), what);
  conf.cni_version = TRY(ChooseVersion(json), what);
  conf.disable_check = TRY(LooseBool(json, "disableCheck"), what);
  conf.disable_gc = TRY(LooseBool(json, "disableGC"), what);
  auto plugins = json.find("plugins");
  if (plugins == json.end()) {
    Json one = json;
    json = Json{{"name", conf.name}, {"cniVersion", conf.cni_version}, {"plugins", Json::array({std::move(one)})}};
    plugins = json.find("plugins");
  }
  if (!plugins->is_array() || plugins->empty() || plugins->size() > 64) return Bad(StrCat(what, ": no list of plugins"));
  for (const Json& plugin : *plugins) {
    if (!plugin.is_object()) return Bad(StrCat(what, ": plugin is not an object"));
    conf.plugins.push_back(TRY(ParsePlugin(plugin), what));
  }
  conf.text = DumpJson(json);
  return conf;
}

Result<NetworkConf> LoadNetworkConf(const std::string& path) {
  NetworkConf conf = TRY(ParseNetworkConf(TRY(ReadConfFile(path)), path));
  Json json = TRY(ParseJson(conf.text, path));
  if (!path.ends_with(".conflist") || TRY(JsonGet<bool>(json, "loadOnlyInlinedPlugins"), path)) {
    conf.file = path;
    return conf;
  }
  std::string dir = StrCat(path.substr(0, path.rfind('/') + 1), conf.name);
  Result<std::vector<std::string>> names = SortedNames(dir, [](std::string_view name) { return name.ends_with(".conf"); });
  if (names && !names->empty()) {
    for (const std::string& name : *names) {
      std::string file = StrCat(dir, "/", name);
      json["plugins"].push_back(TRY(ParseJson(TRY(ReadConfFile(file)), file)));
    }
    conf = TRY(ParseNetworkConf(DumpJson(json), path));
  }
  conf.file = path;
  return conf;
}

ConfDir::ConfDir(std::string dir, std::string fallback) : dir_(std::move(dir)) {
  auto state = state_.Lock();
  state->inotify = sys::UniqueFd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  state->fallback = std::move(fallback);
}

// Whether the directory may differ from what was loaded.
bool ConfDir::Changed(State& state) const {
  constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF |
                               IN_MOVE_SELF | IN_ATTRIB;
  bool changed = false;
  if (!state.watching) {
    state.watching = inotify_add_watch(state.inotify.get(), dir_.c_str(), kEvents | IN_ONLYDIR) >= 0;
    changed = state.watching || !state.loaded;
  }
  alignas(inotify_event) char buffer[16 * (sizeof(inotify_event) + NAME_MAX + 1)];
  for (ssize_t got; (got = read(state.inotify.get(), buffer, sizeof buffer)) > 0;) {
    changed = true;
    for (char* at = buffer; at < buffer + got;) {
      auto* event = reinterpret_cast<inotify_event*>(at);
      // The directory itself went away; another of its name may come. Moved away, the watch must go first.
      if ((event->mask & IN_MOVE_SELF) != 0) inotify_rm_watch(state.inotify.get(), event->wd);
      if ((event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) state.watching = false;
      at += sizeof(inotify_event) + event->len;
    }
  }
  return changed;
}

std::shared_ptr<const ConfDir::Loaded> ConfDir::Load(const std::string& fallback) const {
  auto loaded = std::make_shared<Loaded>();
  std::vector<std::string> problems;
  Result<std::vector<std::string>> names = SortedNames(dir_, HasConfName);
  if (!names) {
    problems.push_back(names.error().message());
  } else {
    for (const std::string& name : *names) {
      Result<NetworkConf> conf = LoadNetworkConf(StrCat(dir_, "/", name));
      if (conf) {
        loaded->conf = *std::move(conf);
        break;
      }
      problems.push_back(conf.error().message());
    }
  }
  if (!loaded->conf && !fallback.empty()) {
    Result<NetworkConf> conf = ParseNetworkConf(fallback, "built-in network");
    if (conf) {
      loaded->conf = *std::move(conf);
    } else {
      problems.push_back(conf.error().message());
    }
  }
  if (!loaded->conf && problems.empty()) problems.push_back("no network configuration in " + dir_);
  loaded->problem = Join(problems, "; ");
  return loaded;
}

std::shared_ptr<const ConfDir::Loaded> ConfDir::Current() const {
  auto state = state_.Lock();
  if (Changed(*state) || !state->loaded) state->loaded = Load(state->fallback);
  return state->loaded;
}

void ConfDir::SetFallback(std::string fallback) {
  auto state = state_.Lock();
  state->fallback = std::move(fallback);
  state->loaded = nullptr;
}

Result<std::string> DefaultConflist(const std::string& bridge, const std::string& subnets, const std::string& data_dir) {
  Json ranges = Json::array(), routes = Json::array();
  for (std::string_view subnet : Split(subnets, ',')) {
    sys::IpPrefix prefix = TRY(sys::IpPrefix::Parse(Trim(subnet)), "pod network");
    ranges.push_back(Json::array({{{"subnet", StrCat(prefix.Network().Text(), "/", prefix.length)}}}));
    routes.push_back({{"dst", sys::IpPrefix::Default(prefix.address.family()).Text()}});
  }
  Json ipam{{"type", "host-local"}, {"dataDir", data_dir}, {"ranges", ranges}, {"routes", routes}};
  Json bridge_plugin{{"type", "bridge"},   {"bridge", bridge},      {"isGateway", true},
                     {"ipMasq", true},     {"hairpinMode", true},   {"ipam", ipam}};
  Json portmap{{"type", "portmap"}, {"capabilities", {{"portMappings", true}}}};
  Json conflist{{"cniVersion", "1.0.0"}, {"name", bridge}, {"plugins", {bridge_plugin, portmap}}};
  return conflist.dump(2);
}

}  // namespace crisp::network
