// logs of a whole pod: its containers' lines by time, each with its container's name.
#include "ctl/pod_log.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>

#include "base/strings.h"
#include "ctl/commands/pod_logs.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

constexpr Colour kColours[] = {Colour::kCyan, Colour::kGreen, Colour::kMagenta, Colour::kYellow, Colour::kBlue};

class PodLogs {
 public:
  PodLogs(Session& session, const PodLogsOptions& options, LogWatch watch)
      : session_(session), options_(options), watch_(std::move(watch)) {}

  Result<> Run() {
    TRY(LookForContainers());
    if (sources_.empty() && !options_.follow) {
      return Error(Code::kNotFound, StrCat("no container of pod ", options_.pod, " has a log"));
    }
    TRY(Show());
    first_look_ = false;
    auto last_look = std::chrono::steady_clock::now();
    while (options_.follow && !ended_) {
      bool silent = !watch_.Wait();
      auto now = std::chrono::steady_clock::now();
      if (silent || now - last_look >= std::chrono::seconds(1)) {
        TRY(LookForContainers());
        last_look = now;
      }
      TRY(Show());
    }
    for (LogSource& source : sources_) TRY(source.Finish());
    return Show();
  }

 private:
  // Adds the containers that came. The pod has ended when it is gone or not ready and nothing runs in it.
  Result<> LookForContainers() {
    auto containers = ListContainers(*session_.client, {.pod = options_.pod, .all = true});
    if (!containers && containers.error().code() == Code::kNotFound) {
      ended_ = true;
      return {};
    }
    if (!containers) return std::move(containers).error();
    std::ranges::sort(*containers, {}, [](const auto& container) { return container.created_at(); });
    bool runs = false;
    for (const auto& container : *containers) {
      runs = runs || container.state() == cri::CONTAINER_RUNNING || container.state() == cri::CONTAINER_CREATED;
      if (!known_.contains(container.id())) TRY(Add(container));
    }
    ended_ = !runs && !TRY(PodIsReady());
    return {};
  }

  Result<bool> PodIsReady() {
    cri::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(options_.pod);
    auto answer = session_.client->Call(&Client::Runtime::PodSandboxStatus, request);
    if (!answer && answer.error().code() == Code::kNotFound) return false;
    if (!answer) return std::move(answer).error();
    return answer->status().state() == cri::SANDBOX_READY;
  }

  Result<> Add(const cri::Container& container) {
    cri::ContainerStatusRequest request;
    request.set_container_id(container.id());
    auto answer = session_.client->Call(&Client::Runtime::ContainerStatus, request);
    if (!answer && answer.error().code() == Code::kNotFound) return {};  // gone meanwhile
    if (!answer) return std::move(answer).error();
    const std::string& path = answer->status().log_path();
    auto file = path.empty() ? Result<LogFile>(Error(Code::kNotFound, "no log"))
                             : LogFile::Open(path, first_look_ ? options_.tail_lines : std::nullopt);
    if (!file && file.error().code() == Code::kNotFound) return {};  // not started yet: asked for again
    if (!file) return std::move(file).error();
    if (options_.follow) TRY(watch_.AddDirectoryOf(path));
    known_.insert(container.id());
    const auto& metadata = container.metadata();
    std::string name = metadata.attempt() == 0 ? metadata.name() : StrCat(metadata.name(), "#", metadata.attempt());
    width_ = std::max(width_, name.size());
    sources_.emplace_back(std::move(name), *std::move(file), options_.selection);
    colours_[&sources_.back()] = kColours[(known_.size() - 1) % std::size(kColours)];
    return {};
  }

  Result<> Show() {
    TRY(MergeLogs(sources_, [this](const LogSource& source, const LogLine& line) {
      std::string name = Printable(source.name());
      name.resize(std::max(width_, name.size()), ' ');
      Print(StrCat(Paint(name, colours_[&source], session_.colours), " | ", line.text,
                   line.text.ends_with('\n') ? "" : "\n"));
    }));
    if (std::fflush(stdout) != 0) return Errno(errno, "write the log");
    return {};
  }

  Session& session_;
  const PodLogsOptions& options_;
  LogWatch watch_;
  LogSources sources_;
  std::set<std::string> known_;
  std::map<const LogSource*, Colour> colours_;
  size_t width_ = 0;
  bool first_look_ = true;  // what comes later is shown from its first line on
  bool ended_ = false;
};

}  // namespace

Result<int> ShowPodLogs(Session& session, const PodLogsOptions& options) {
  LogWatch watch = TRY(LogWatch::Make());
  TRY(PodLogs(session, options, std::move(watch)).Run());
  return 0;
}

}  // namespace crisp::ctl
