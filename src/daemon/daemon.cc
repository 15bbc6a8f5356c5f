#include "daemon/daemon.h"

#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "base/log.h"
#include "daemon/assembly.h"
#include "daemon/trim.h"
#include "sys/file.h"

namespace crisp::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick(1'000);
// READY=1 waits so long, from our start on, for Recover; the socket serves meanwhile. With a thousand pods the start
// has taken longer by itself, and a wait would only end at its bound.
constexpr milliseconds kReadyWait(150);
constexpr milliseconds kDrainBound(3'000);     // for calls that run when we are told to stop
constexpr milliseconds kDisconnectBound(100);  // for clients to close their connections by themselves
constexpr std::chrono::hours kSweepEvery(1);
constexpr std::chrono::minutes kSweepBound(10);
constexpr int kTicksPerTrim = 60;

Result<> MakePrivateDir(const std::string& path, mode_t mode) {
  TRY(sys::MakeDirs(path, mode));
  // Also what an older version or an administrator left more open (row S50).
  if (chmod(path.c_str(), mode) != 0) return Errno(errno, "chmod " + path);
  return {};
}

// Two daemons on one directory would undo each other's work. The lock goes with the process, however that ends.
Result<sys::UniqueFd> LockDir(const std::string& dir, const char* name) {
  std::string path = StrCat(dir, "/", name);
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Errno(errno, "lock " + path);
    Result<std::string> holder = sys::ReadAll(fd.borrow(), 64);
    return Error(Code::kFailedPrecondition,
                 StrCat("another crispd (pid ", holder ? std::string(Trim(*holder)) : "?", ") uses ", dir));
  }
  if (ftruncate(fd.get(), 0) != 0) return Errno(errno, "truncate " + path);
  TRY(sys::WriteAll(fd.borrow(), StrCat(getpid(), "\n")));
  return fd;
}

// Each idle client costs a descriptor, and many pods cost some each.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::Start(const Config& config) {
  std::unique_ptr<Daemon> daemon(new Daemon(config));
  RaiseDescriptorLimit();
  TRY(daemon->MakeDirectories());
  TRY(daemon->OpenMeans());
  TRY(daemon->Serve());
  return daemon;
}

Result<> Daemon::MakeDirectories() {
  TRY(MakePrivateDir(config_.root_dir, 0700));
  TRY(MakePrivateDir(config_.state_dir, 0711));
  TRY(sys::MakeDir(config_.root_dir + "/containers",
                   0700));  // named by ImageFsInfo before the first container is there
  TRY(sys::MakeDirs(std::filesystem::path(config_.socket).parent_path().string(), 0755));
  root_lock_ = TRY(LockDir(config_.root_dir, "root.lock"));
  state_lock_ = TRY(LockDir(config_.state_dir, "state.lock"));
  return {};
}

Result<> Daemon::OpenMeans() {
  db_ = TRY(state::Database::Open(config_.root_dir + "/crisp.db"), "state database");
  images_ = TRY(image::Service::Open(ImageOptions(config_), *db_), "images");
  network_ = TRY(network::Network::Open(NetworkOptions(config_), *db_), "network");
  cgroups_ = TRY(cgroup::Cgroups::Detect({.driver = CgroupDriver(config_)}), "cgroups");
  bool systemd = cgroups_->driver() == cgroup::Driver::kSystemd;
  runtime::Runtime::Options options = RuntimeOptions(config_, systemd, events_.Callbacks());
  config_.runtime_default_handler = DefaultHandler(config_, options);
  Result<> userns = ProbeUserns(options.shim_binary, config_.root_dir);
  if (!userns) LogInfo("no user namespaces for pods on this node", {{"reason", userns.error()}});
  options.user_namespaces = userns.has_value();
  runtime_ = TRY(runtime::Runtime::Make(std::move(options)), "runtime");
  if (config_.nri_enabled) nri_ = std::make_unique<nri::Nri>(NriOptions(config_));
  pods_ = TRY(pod::Manager::Open(PodOptions(config_), {.db = *db_,
                                                       .images = *images_,
                                                       .network = *network_,
                                                       .runtime = *runtime_,
                                                       .cgroups = *cgroups_,
                                                       .events = events_,
                                                       .hooks = nri_.get()}),
              "pods");
  if (nri_) nri_->Start(*pods_);
  return {};
}

void Daemon::Observe(const cri::CallRecord& call) {
  metrics_.Observe(call.method, call.code, call.took);
  std::vector<StageTime> stages = call.stages.All();
  if (stages.size() > 2) metrics_.ObserveStages(call.method, stages, call.took);  // the two are those of every call
}

Result<> Daemon::Serve() {
  front_.emplace(cri::Front::Options{.observer = [this](const cri::CallRecord& call) { Observe(call); },
                                     .slow_after = std::chrono::seconds(config_.log_slow_call_seconds)});
  layers_.emplace(config_.root_dir + "/containers", config_.root_dir + "/removed");
  streaming_ = TRY(Streaming::Listen(StreamingOptions(config_), *pods_), "streaming");
  runtime_service_.emplace(cri::RuntimeService::Deps{.front = *front_,
                                                     .pods = *pods_,
                                                     .network = *network_,
                                                     .runtime = *runtime_,
                                                     .cgroups = *cgroups_,
                                                     .layers = *layers_,
                                                     .streams = *streaming_},
                           cri::RuntimeService::Facts{.version = CRISP_VERSION,
                                                      .default_handler = config_.runtime_default_handler,
                                                      .info = {{"config", ConfigJson(config_)}}});
  image_service_.emplace(cri::ImageService::Deps{.front = *front_, .images = *images_, .runtime = *runtime_, .layers = *layers_});
  crisp_service_.emplace(cri::CrispImagesService::Deps{.front = *front_, .images = *images_});
  server_ = TRY(
      cri::Server::Listen({.socket_path = config_.socket}, {&*runtime_service_, &*image_service_, &*crisp_service_}));
  if (!config_.metrics_address.empty()) {
    metrics_page_ = TRY(
        metrics::PageServer::Listen(config_.metrics_address, "/metrics", [this] { return MetricsPage(); }), "metrics");
  }
  housekeeper_.emplace([this](std::stop_token stop) { Housekeep(stop); });
  return {};
}

std::string Daemon::MetricsPage() const {
  auto count = [](size_t n) { return static_cast<int64_t>(n); };
  return metrics_.Render() + metrics::Gauge("crisp_pods", "Pods there are.", count(pods_->ListSandboxes({}).size())) +
         metrics::Gauge("crisp_containers", "Containers there are.", count(pods_->ListContainers({}).size())) +
         metrics::Gauge("crisp_images", "Images there are.", count(images_->List().size()));
}

Daemon::~Daemon() {
  metrics_page_.reset();
  if (runtime_service_) runtime_service_->CloseStreams();
  if (front_) front_->Drain(kDrainBound);
  if (server_) server_->Shutdown(kDisconnectBound);
  if (housekeeper_) housekeeper_->request_stop();
  {
    auto between_its_look_and_its_wait = progress_.Lock();
  }
  progressed_.notify_all();
  housekeeper_.reset();
  server_.reset();
  front_.reset();  // waits for calls that still run, and they use what follows
  streaming_.reset();
  if (nri_) nri_->Stop();
}

void Daemon::Housekeep(std::stop_token stop) {
  if (Result<> done = pods_->Recover(Ctx(Clock::time_point::max(), stop, "recover")); !done) {
    LogError("recovery is not complete, the sweep goes on with it", {{"error", done.error()}});
    pods_->Sweep(Ctx(Clock::now() + kSweepBound, stop, "sweep"));
  }
  progress_.Lock()->recovered = true;
  progressed_.notify_all();
  while (!stop.stop_requested()) {
    {
      auto progress = progress_.Lock();
      progress.WaitUntil(progressed_, Clock::now() + kSweepEvery, [&] { return stop.stop_requested(); });
    }
    if (!stop.stop_requested()) pods_->Sweep(Ctx(Clock::now() + kSweepBound, stop, "sweep"));
  }
}

void Daemon::WaitUntilRecovered(Clock::time_point until) {
  auto progress = progress_.Lock();
  progress.WaitUntil(progressed_, until, [&] { return progress->recovered; });
}

void Daemon::RunUntilSignal(const Notifier& notifier) {
  WaitUntilRecovered(began_ + kReadyWait);
  notifier.Send(StrCat("READY=1\nSTATUS=serving on ", config_.socket));
  LogInfo("serving", {{"socket", config_.socket}, {"version", CRISP_VERSION}, {"pid", getpid()}});
  TrimMemory();  // what only the start needed

  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGINT);
  milliseconds tick = kTick;
  if (notifier.watchdog_interval()) {
    tick = std::clamp(std::chrono::duration_cast<milliseconds>(*notifier.watchdog_interval()), milliseconds(1), kTick);
  }
  timespec timeout{.tv_sec = tick.count() / 1000, .tv_nsec = tick.count() % 1000 * 1'000'000};
  for (int ticks = 1;; ++ticks) {
    int signal = sigtimedwait(&wanted, nullptr, &timeout);
    if (signal > 0) {
      LogInfo("stopping, pods go on", {{"signal", signal}});
      break;
    }
    if (errno != EAGAIN && errno != EINTR) {
      LogError("waiting for signals failed", {{"error", Errno(errno, "sigtimedwait")}});
      break;
    }
    front_->ReportSlowCalls();
    if (notifier.watchdog_interval()) notifier.Send("WATCHDOG=1");
    if (ticks % kTicksPerTrim == 0) TrimMemory();
  }
  notifier.Send("STOPPING=1");
}

}  // namespace crisp::daemon
