#include "cri/server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::cri {
namespace {

constexpr int kMessageBytesMax = 16 << 20;  // what the kubelet's own client allows
constexpr int kStreamsPerConnectionMax = 1024;
constexpr size_t kBuffersBytesMax = size_t{512} << 20;  // of all connections together
constexpr int kIdleConnectionMs = 30 * 60 * 1000;
constexpr int kMinPingIntervalMs = 5'000;

// Takes a dead daemon's socket out of the way. gRPC by itself would unlink a living one as well.
Result<> MakeWay(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path[0] != '/' || path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalidArgument, StrCat("socket ", Quote(path), " is not an absolute path of less than ",
                                                sizeof address.sun_path, " bytes"));
  }
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) return {};
  if (!S_ISSOCK(st.st_mode)) return Error(Code::kAlreadyExists, StrCat(path, " exists and is no socket"));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  sys::UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.ok()) return Errno(errno, "socket");
  int connected = connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  // EAGAIN: somebody listens whose queue is full.
  if (connected == 0 || errno == EAGAIN)
    return Error(Code::kAlreadyExists, StrCat("another program listens on ", path));
  return sys::RemoveFile(path);
}

void Limit(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnectionMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleConnectionMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // One daemon, one socket: no port sharing, and memory before throughput.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_OPTIMIZATION_TARGET, "latency");
  grpc::ResourceQuota quota("crispd");
  quota.Resize(kBuffersBytesMax);
  builder.SetResourceQuota(quota);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::Listen(const Options& options, const std::vector<grpc::Service*>& services) {
  TRY(MakeWay(options.socket_path));
  grpc::ServerBuilder builder;
  int bound = 0;
  builder.AddListeningPort("unix:" + options.socket_path, grpc::InsecureServerCredentials(), &bound);
  Limit(builder);
  for (grpc::Service* service : services) builder.RegisterService(service);
  mode_t before = umask(0177);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  umask(before);
  if (!server || bound == 0) {
    return Error(Code::kUnavailable,
                 StrCat("cannot listen on ", options.socket_path, " (gRPC's own message is above)"));
  }
  return std::unique_ptr<Server>(new Server(options.socket_path, std::move(server)));
}

void Server::Shutdown(std::chrono::milliseconds bound) {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now() + bound);
  server_->Wait();
  server_.reset();
  (void)unlink(path_.c_str());  // gRPC may have done it
}

Server::~Server() { Shutdown(std::chrono::milliseconds(0)); }

}  // namespace crisp::cri
