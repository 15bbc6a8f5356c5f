#include "conformance/nri_plugin.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "base/strings.h"
#include "conformance/schema.h"

namespace crisp::conformance {
namespace {

constexpr const char* kNri = "crisp.nri.v1.";  // the package of our description; on the wire there are only numbers
constexpr const char* kTtrpc = "crisp.ttrpc.v1.";
constexpr const char* kRuntimeService = "nri.pkg.api.v1alpha1.Runtime";
constexpr uint32_t kToPlugin = 1, kToRuntime = 2;
constexpr int kAllEvents = (1 << 14) - 1;
constexpr auto kRegistrationPatience = std::chrono::seconds(10);

// "EVENT_RUN_POD_SANDBOX" → "RunPodSandbox"
std::string MethodOfEvent(const std::string& event) {
  std::string method;
  for (std::string_view word : Split(std::string_view(event).substr(strlen("EVENT_")), '_')) {
    for (size_t i = 0; i < word.size(); ++i) method += i == 0 ? word[i] : static_cast<char>(tolower(word[i]));
  }
  return method;
}

std::string IdOf(const Json& request, const char* member) {
  return request.contains(member) ? request[member]["id"].get<std::string>() : "";
}

}  // namespace

std::string NriPlugin::Event::Pod() const { return IdOf(request, "pod"); }
std::string NriPlugin::Event::Container() const { return IdOf(request, "container"); }

Result<std::unique_ptr<NriPlugin>> NriPlugin::Connect(const std::string& path, const std::string& index,
                                                      const std::string& name,
                                                      std::map<std::string, Handler> handlers) {
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Code::kInvalidArgument, StrCat("too long for a socket: ", path));
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return Errno(errno, StrCat("connect to ", path));
  std::unique_ptr<NriPlugin> plugin(new NriPlugin(std::move(fd), std::move(handlers)));
  plugin->reader_ = std::thread([&own = *plugin] { own.Read(); });
  std::string registration =
      TRY(Schema::Get().Encode(StrCat(kNri, "RegisterPluginRequest"),
                               {{"plugin_name", name}, {"plugin_idx", index}, {"NRI_version", "v0.12.0"}}));
  std::string request = TRY(
      Schema::Get().Encode(StrCat(kTtrpc, "Request"),
                           {{"service", kRuntimeService}, {"method", "RegisterPlugin"}, {"payload", registration}}));
  plugin->Send(kToRuntime, 1, codec::TtrpcType::kRequest, request);
  std::unique_lock lock(plugin->mutex_);
  plugin->changed_.wait_for(lock, kRegistrationPatience, [&] { return plugin->registered_ || plugin->closed_; });
  if (!plugin->registered_ || !plugin->refused_.empty()) {
    std::string why = plugin->refused_.empty() ? "no answer" : plugin->refused_;
    lock.unlock();
    return Error(Code::kUnavailable, StrCat("register an NRI plugin: ", why));
  }
  lock.unlock();
  return plugin;
}

NriPlugin::~NriPlugin() {
  shutdown(socket_.get(), SHUT_RDWR);
  if (reader_.joinable()) reader_.join();
  for (std::thread& thread : threads_) thread.join();
}

bool NriPlugin::WaitSynchronized(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [this] { return synchronized_; });
}
std::vector<NriPlugin::Event> NriPlugin::events() const {
  std::lock_guard lock(mutex_);
  return events_;
}
std::vector<std::string> NriPlugin::synced_pods() const {
  std::lock_guard lock(mutex_);
  return pods_;
}
std::vector<std::string> NriPlugin::synced_containers() const {
  std::lock_guard lock(mutex_);
  return containers_;
}

void NriPlugin::Send(uint32_t connection, uint32_t stream, codec::TtrpcType type, const std::string& body) {
  auto frame = codec::EncodeTtrpc({.stream = stream, .type = type, .body = body});
  if (!frame) return;
  std::string bytes = codec::EncodeNriMux(connection, *frame);
  std::lock_guard lock(sending_);
  for (std::string_view rest = bytes; !rest.empty();) {  // the runtime may have hung up: no SIGPIPE
    ssize_t sent = send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    rest.remove_prefix(static_cast<size_t>(sent));
  }
}

void NriPlugin::Read() {
  codec::NriMuxReader mux;
  codec::TtrpcReader readers[2];
  std::vector<char> buffer(64 << 10);
  ssize_t got;
  while ((got = recv(socket_.get(), buffer.data(), buffer.size(), 0)) > 0) {
    std::vector<codec::NriMuxFrame> pieces;
    if (!mux.Push({buffer.data(), static_cast<size_t>(got)}, pieces)) break;
    for (const codec::NriMuxFrame& piece : pieces) {
      std::vector<codec::TtrpcFrame> frames;
      if (!readers[piece.connection == kToPlugin ? 0 : 1].Push(piece.payload, frames)) break;
      for (const codec::TtrpcFrame& frame : frames) {
        std::lock_guard lock(mutex_);
        if (frame.type == codec::TtrpcType::kRequest) {
          threads_.emplace_back([this, frame] { Serve(frame.stream, frame.body); });
          continue;
        }
        auto response = Schema::Get().Decode(StrCat(kTtrpc, "Response"), frame.body);
        registered_ = true;
        if (response && response->contains("status") && (*response)["status"]["code"] != 0)
          refused_ = (*response)["status"]["message"];
        changed_.notify_all();
      }
    }
  }
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void NriPlugin::Serve(uint32_t stream, const std::string& body) {
  auto request = Schema::Get().Decode(StrCat(kTtrpc, "Request"), body);
  Json response;
  if (!request) {
    response["status"] = {{"code", 13}, {"message", request.error().message()}};
  } else {
    auto payload = Answer((*request)["method"], (*request)["payload"]);
    if (payload)
      response["payload"] = *payload;
    else
      response["status"] = {{"code", static_cast<int>(payload.error().code())}, {"message", payload.error().message()}};
  }
  auto bytes = Schema::Get().Encode(StrCat(kTtrpc, "Response"), response);
  if (bytes) Send(kToPlugin, stream, codec::TtrpcType::kResponse, *bytes);
}

Result<std::string> NriPlugin::Answer(const std::string& method, const std::string& payload) {
  const Schema& schema = Schema::Get();
  if (method == "Configure")
    return schema.Encode(StrCat(kNri, "ConfigureResponse"), {{"events", kAllEvents & ~(1 << 13)}});
  if (method == "Shutdown") return std::string();
  const bool state_change = method == "StateChange";
  Json request = TRY(schema.Decode(StrCat(kNri, state_change ? "StateChangeEvent" : method + "Request"), payload));
  std::string event = state_change ? MethodOfEvent(request["event"]) : method;
  if (method == "Synchronize") {
    std::lock_guard lock(mutex_);
    for (const Json& pod : request["pods"]) pods_.push_back(pod["id"]);
    for (const Json& container : request["containers"]) containers_.push_back(container["id"]);
  } else {
    std::lock_guard lock(mutex_);
    events_.push_back({event, request});
    changed_.notify_all();
  }
  Json response = Json::object();
  if (auto handler = handlers_.find(event); handler != handlers_.end()) response = TRY(handler->second(request));
  if (method == "Synchronize") {
    response["more"] = request["more"];
    std::lock_guard lock(mutex_);
    synchronized_ = synchronized_ || !request["more"].get<bool>();
    changed_.notify_all();
  }
  if (state_change) return std::string();
  return schema.Encode(StrCat(kNri, method, "Response"), response);
}

}  // namespace crisp::conformance
