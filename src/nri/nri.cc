// The life of plugins: found or connecting, registered, brought up to date, served, gone.
#include "nri/nri.h"

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/strings.h"
#include "base/thread.h"
#include "nri/convert.h"
#include "sys/file.h"

namespace crisp::nri {

namespace {

constexpr size_t kPluginsMax = 64;
constexpr int kBacklog = 16;
constexpr int kChildSocket = 3;
constexpr std::chrono::seconds kVerbsTimeout(10);  // for verbs under way to end; new ones wait meanwhile
constexpr std::chrono::seconds kUpdateTimeout(30);

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

bool SomebodyServes(const std::string& path) {
  sys::UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = AddressOf(path);
  return probe.ok() && connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// Programs of `dir` that are named like plugins, in the order of their names.
std::vector<PluginName> FindPlugins(const std::string& dir) {
  std::vector<PluginName> found;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(dir.c_str()), closedir);
  if (stream == nullptr) {
    if (errno != ENOENT) LogWarning("NRI plugin directory cannot be read, ignoring it", {{"error", Errno(errno, dir)}});
    return found;
  }
  while (const dirent* entry = readdir(stream.get())) {
    struct stat info;
    std::string path = StrCat(dir, "/", entry->d_name);
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0) continue;
    if (std::optional<PluginName> name = ParsePluginName(entry->d_name)) {
      found.push_back(std::move(*name));
    } else {
      LogWarning("no NRI plugin's name, ignoring the program", {{"path", path}});
    }
  }
  std::sort(found.begin(), found.end(), [](const PluginName& a, const PluginName& b) {
    return std::tie(a.index, a.base) < std::tie(b.index, b.base);
  });
  if (found.size() > kPluginsMax) found.resize(kPluginsMax);
  return found;
}

Result<std::string> ConfigOf(const std::string& dir, const PluginName& name) {
  for (const std::string& file : {StrCat(name.index, "-", name.base), name.base}) {
    Result<std::string> text = sys::ReadFile(StrCat(dir, "/", file, ".conf"), 1u << 20);
    if (text || text.error().code() != Code::kNotFound) return text;
  }
  return std::string();
}

}  // namespace

std::string ReadConfig(const pod::ContainerStatus& container) {
  return sys::ReadFile(container.bundle_dir + "/config.json").value_or(std::string());
}

Nri::Nri(Options options) : options_(std::move(options)), wake_(eventfd(0, EFD_CLOEXEC)) {}

Nri::~Nri() { Stop(); }

void Nri::Start(pod::Manager& pods) {
  pods_ = &pods;
  Launch();
  if (options_.socket.empty()) return;
  if (Result<> listening = Listen(); !listening) {
    LogWarning("NRI plugins cannot register, going on without", {{"error", listening.error()}});
    return;
  }
  Result<std::thread> acceptor = StartThread([this] { Accept(); });
  if (!acceptor) {
    LogWarning("NRI plugins cannot register, going on without", {{"error", acceptor.error()}});
    return;
  }
  acceptor_ = *std::move(acceptor);
}

void Nri::Stop() {
  bool listening = listener_.ok();
  state_.Lock()->stopping = true;
  (void)eventfd_write(wake_.get(), 1);
  if (acceptor_.joinable()) acceptor_.join();
  listener_.Reset();
  if (listening) (void)unlink(options_.socket.c_str());
  std::vector<PluginRef> active = Active();
  std::vector<std::thread> telling;
  for (const PluginRef& plugin : active) {
    auto tell = [plugin] { plugin->Shutdown(); };
    if (Result<std::thread> thread = StartThread(tell)) {
      telling.push_back(*std::move(thread));
    } else {
      tell();
    }
  }
  for (std::thread& each : telling) each.join();
  std::list<Served> served;
  {
    auto state = state_.Lock();
    served.swap(state->served);
    state->active.clear();
  }
  for (Served& each : served) each.plugin->Close();
  for (Served& each : served) each.thread.join();
}

// Each plugin on a thread of its own: a slow one does not hold up the others. Verbs wait for all.
void Nri::Launch() {
  for (const PluginName& name : FindPlugins(options_.plugin_dir)) {
    Result<PluginRef> plugin = LaunchOne(name);
    if (!plugin) {
      LogWarning("NRI plugin cannot be started, going on without it",
                 {{"plugin", StrCat(name.index, "-", name.base)}, {"error", plugin.error()}});
      continue;
    }
    gate_->Hold();
    Serve(std::move(*plugin), true);
  }
}

Result<Nri::PluginRef> Nri::LaunchOne(const PluginName& name) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  sys::UniqueFd ours(pair[0]), theirs(pair[1]);
  std::string config = TRY(ConfigOf(options_.plugin_config_dir, name), "configuration");
  sys::Command command;
  command.program = StrCat(options_.plugin_dir, "/", name.index, "-", name.base);
  command.env = {StrCat(kNameVariable, "=", name.base), StrCat(kIndexVariable, "=", name.index),
                 StrCat(kSocketVariable, "=", kChildSocket)};
  command.fds.emplace(kChildSocket, theirs.borrow());
  sys::Process process = TRY(sys::Spawn(command));
  return std::make_shared<Plugin>(std::move(ours), options_.timeouts, name, std::move(config), std::move(process));
}

Result<> Nri::Listen() {
  const std::string& path = options_.socket;
  if (path.size() >= sizeof sockaddr_un{}.sun_path)
    return Error(Code::kInvalidArgument, path + " is too long for a socket");
  TRY(sys::MakeDirs(path.substr(0, path.rfind('/')), 0700));
  if (SomebodyServes(path)) return Error(Code::kFailedPrecondition, path + " is served by another program");
  (void)unlink(path.c_str());
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = AddressOf(path);
  // Before anybody can connect it belongs to root alone: plugins change containers at will.
  if (!fd.ok() || fchmod(fd.get(), 0600) != 0) return Errno(errno, "socket");
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return Errno(errno, "bind " + path);
  if (chmod(path.c_str(), 0600) != 0) return Errno(errno, "chmod " + path);
  if (listen(fd.get(), kBacklog) != 0) return Errno(errno, "listen on " + path);
  listener_ = std::move(fd);
  return {};
}

void Nri::Accept() {
  pollfd waits[] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (true) {
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) {
      eventfd_t count;
      (void)eventfd_read(wake_.get(), &count);
      if (state_.Lock()->stopping) return;
    }
    Reap();
    if (waits[0].revents == 0) continue;
    sys::UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.ok()) continue;
    if (state_.Lock()->served.size() >= kPluginsMax) {
      LogWarning("too many NRI plugins, refusing one more", {{"limit", kPluginsMax}});
      continue;
    }
    Serve(std::make_shared<Plugin>(std::move(client), options_.timeouts, PluginName{}, "", std::nullopt), false);
  }
}

void Nri::Serve(PluginRef plugin, bool launched) {
  {
    auto state = state_.Lock();
    Result<std::thread> thread = StartThread([this, plugin, launched] { Life(plugin, launched); });
    if (thread) {
      state->served.push_back({plugin, *std::move(thread), false});
      return;
    }
    LogWarning("NRI plugin is not served", {{"plugin", plugin->Name()}, {"error", thread.error()}});
  }
  if (launched) gate_->Release();
}

// One plugin, from its first byte to its last.
void Nri::Life(PluginRef plugin, bool launched) {
  plugin->Start();
  Result<> joined = plugin->Register();
  if (joined) joined = Join(*plugin, plugin);
  if (launched) gate_->Release();
  if (joined) {
    LogInfo("NRI plugin is ready", {{"plugin", plugin->Name()}});
    ServeCalls(*plugin);
    LogInfo("NRI plugin is gone", {{"plugin", plugin->Name()}});
  } else {
    LogWarning("NRI plugin is of no use, disconnecting it", {{"plugin", plugin->Name()}, {"error", joined.error()}});
  }
  plugin->Close();
  auto state = state_.Lock();
  std::erase(state->active, plugin);
  for (Served& each : state->served) {
    if (each.plugin == plugin) each.ended = true;
  }
  (void)eventfd_write(wake_.get(), 1);
}

void Nri::Reap() {
  std::list<Served> ended;
  {
    auto state = state_.Lock();
    for (auto each = state->served.begin(); each != state->served.end();) {
      auto next = std::next(each);
      if (each->ended) ended.splice(ended.end(), state->served, each);
      each = next;
    }
  }
  for (Served& each : ended) each.thread.join();
}

// With the gate closed nothing comes or goes: what is listed now the plugin is told here, all that follows by events.
// The plugin's own wishes come after that, since they take verbs' locks.
Result<> Nri::Join(Plugin& plugin, const PluginRef& ref) {
  std::vector<v1::ContainerUpdate> updates;
  {
    Gate::Pass closed = TRY(gate_->Close(Ctx().WithTimeout(kVerbsTimeout)));
    std::vector<v1::PodSandbox> pods;
    for (const pod::SandboxRef& pod : pods_->ListSandboxes({})) pods.push_back(ToNri(*pod));
    std::vector<v1::Container> containers;
    for (const pod::ContainerRef& container : pods_->ListContainers({})) {
      containers.push_back(ToNri(*container, ReadConfig(*container)));
    }
    updates = TRY(plugin.Synchronize(pods, containers));
    auto state = state_.Lock();
    if (state->stopping) return Error(Code::kCancelled, "crispd is stopping");
    auto by_index = [](const PluginRef& a, const PluginRef& b) { return a->parts().index < b->parts().index; };
    state->active.insert(std::upper_bound(state->active.begin(), state->active.end(), ref, by_index), ref);
  }
  if (Result<> applied = ApplyUpdates(Ctx().WithTimeout(kUpdateTimeout), updates); !applied) {
    LogWarning("what a plugin wants for containers cannot be done",
               {{"plugin", plugin.Name()}, {"error", applied.error()}});
  }
  return {};
}

void Nri::ServeCalls(Plugin& plugin) {
  while (std::optional<Request> request = plugin.NextRequest()) {
    if (request->service == kRuntimeService && request->method == "UpdateContainers") {
      v1::UpdateContainersRequest in;
      if (!in.ParseFromString(request->payload)) {
        plugin.Reply(*request, Error(Code::kInvalidArgument, "no UpdateContainersRequest"));
        continue;
      }
      if (in.evict_size() != 0)
        LogWarning("a plugin wants to evict containers, ignoring that", {{"plugin", plugin.Name()}});
      v1::UpdateContainersResponse out;
      for (const v1::ContainerUpdate& update : in.update()) {
        Result<> done = ApplyUpdate(Ctx().WithTimeout(kUpdateTimeout), update);
        if (done) continue;
        LogWarning("what a plugin wants for a container cannot be done",
                   {{"plugin", plugin.Name()}, {"container", update.container_id()}, {"error", done.error()}});
        if (!update.ignore_failure()) *out.add_failed() = update;
      }
      plugin.Reply(*request, out.SerializeAsString());
    } else {
      plugin.Reply(*request, Error(Code::kUnimplemented, StrCat("no method ", Quote(request->method), " now")));
    }
  }
}

}  // namespace crisp::nri
