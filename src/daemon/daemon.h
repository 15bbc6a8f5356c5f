// Daemon: crispd's objects, built bottom up and handed to each other, and its life: serve, recover, sweep, stop.
// Threading: Start, RunUntilSignal and the destructor on the main thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <optional>
#include <thread>

#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "cri/call.h"
#include "cri/crisp_service.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "cri/server.h"
#include "daemon/config.h"
#include "daemon/notify.h"
#include "daemon/streaming.h"
#include "image/service.h"
#include "metrics/call_metrics.h"
#include "metrics/page_server.h"
#include "network/network.h"
#include "nri/nri.h"
#include "pod/events.h"
#include "pod/manager.h"
#include "runtime/runtime.h"
#include "state/database.h"
#include "sys/fd.h"

namespace crisp::daemon {

class Daemon {
 public:
  // Makes directories, takes their locks, opens everything and serves. SIGTERM and SIGINT must be blocked already, so
  // that all threads inherit that. kFailedPrecondition: another crispd uses one of the directories.
  static Result<std::unique_ptr<Daemon>> Start(const Config& config);
  // Stops serving; pods stay as they are.
  ~Daemon();

  // Serves until SIGTERM or SIGINT, with the systemd watchdog and the log of slow calls.
  void RunUntilSignal(const Notifier& notifier);

 private:
  explicit Daemon(const Config& config) : config_(config) {}
  Result<> MakeDirectories();
  Result<> OpenMeans();
  Result<> Serve();
  void Housekeep(std::stop_token stop);
  void WaitUntilRecovered(Clock::time_point until);
  std::string MetricsPage() const;

  void Observe(const cri::CallRecord& call);
  const Clock::time_point began_ = Clock::now();
  Config config_;  // fixed after OpenMeans
  sys::UniqueFd root_lock_, state_lock_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<image::Service> images_;
  std::unique_ptr<network::Network> network_;
  std::unique_ptr<cgroup::Cgroups> cgroups_;
  pod::EventRelay events_;
  std::unique_ptr<runtime::Runtime> runtime_;
  std::unique_ptr<nri::Nri> nri_;  // null: switched off
  std::unique_ptr<pod::Manager> pods_;

  struct Progress {
    bool recovered = false;
  };
  Synchronized<Progress> progress_;
  std::condition_variable progressed_;
  std::optional<std::jthread> housekeeper_;  // Recover, then sweeps; ends before what it uses

  metrics::CallMetrics metrics_;
  std::optional<cri::Front> front_;
  std::optional<cri::DiskUsage> layers_;
  std::unique_ptr<Streaming> streaming_;
  std::optional<cri::RuntimeService> runtime_service_;
  std::optional<cri::ImageService> image_service_;
  std::optional<cri::CrispImagesService> crisp_service_;
  std::unique_ptr<cri::Server> server_;
  std::unique_ptr<metrics::PageServer> metrics_page_;
};

}  // namespace crisp::daemon
