// logs: the log file of a container, as the kubelet's log format has it, or those of a pod.
#include <cstdio>

#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/pod_logs.h"
#include "ctl/format.h"
#include "ctl/log_follow.h"

namespace crisp::ctl {

namespace {

struct LogsOptions {
  std::string container, pod, since, stream;
  int64_t tail = -1, limit_bytes = -1;
  bool follow = false, timestamps = false, previous = false, reopen = false;
};

Result<cri::ContainerStatus> Status(Session& session, const std::string& id) {
  cri::ContainerStatusRequest request;
  request.set_container_id(id);
  return TRY(session.client->Call(&Client::Runtime::ContainerStatus, request)).status();
}

// The container of the same pod and name with the next lower attempt.
Result<std::string> PreviousOf(Session& session, const std::string& id) {
  ListFilter every{.all = true};
  auto containers = TRY(ListContainers(*session.client, every));
  const cri::Container* current = nullptr;
  const cri::Container* previous = nullptr;
  for (const auto& c : containers) {
    if (c.id() == id) current = &c;
  }
  if (current == nullptr) return Error(Code::kNotFound, StrCat("container ", id, " is gone"));
  for (const auto& c : containers) {
    bool earlier = c.pod_sandbox_id() == current->pod_sandbox_id() &&
                   c.metadata().name() == current->metadata().name() &&
                   c.metadata().attempt() < current->metadata().attempt();
    if (earlier && (previous == nullptr || previous->metadata().attempt() < c.metadata().attempt())) previous = &c;
  }
  if (previous == nullptr) return Error(Code::kNotFound, StrCat("container ", id, " has no previous one"));
  return previous->id();
}

Result<LogSelection> ToSelection(const LogsOptions& options) {
  LogSelection selection{.timestamps = options.timestamps};
  if (!options.since.empty()) selection.since_unix_nanos = TRY(ParseSince(options.since, UnixNanosNow()));
  if (options.limit_bytes >= 0) selection.bytes_max = static_cast<uint64_t>(options.limit_bytes);
  if (options.stream == "stdout") {
    selection.only = LogStream::kStdout;
  } else if (options.stream == "stderr") {
    selection.only = LogStream::kStderr;
  } else if (!options.stream.empty() && options.stream != "all") {
    return Error(Code::kInvalidArgument, StrCat("unknown stream ", Quote(options.stream), " (all, stdout, stderr)"));
  }
  return selection;
}

bool IsPod(Session& session, const std::string& id) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  return session.client->Call(&Client::Runtime::PodSandboxStatus, request).has_value();
}

Result<int> OfPod(Session& session, const LogsOptions& options, const LogSelection& selection, std::string pod) {
  if (options.previous || options.reopen) {
    return Error(Code::kInvalidArgument, "--previous and --reopen are for one container, not for a pod");
  }
  PodLogsOptions of_pod{.pod = std::move(pod), .selection = selection, .follow = options.follow};
  if (options.tail >= 0) of_pod.tail_lines = static_cast<size_t>(options.tail);
  return ShowPodLogs(session, of_pod);
}

Result<int> LogsCommand(Session& session, const LogsOptions& options) {
  LogSelection selection = TRY(ToSelection(options));
  if (!options.pod.empty()) {
    return OfPod(session, options, selection, TRY(FindPod(*session.client, options.pod)));
  }
  if (options.container.empty()) return Error(Code::kInvalidArgument, "logs: name a container or a pod");
  auto found = FindContainer(*session.client, options.container);
  if (!found && found.error().code() == Code::kNotFound) {
    auto pod = FindPod(*session.client, options.container);
    if (pod) return OfPod(session, options, selection, *pod);
  }
  if (!found) return std::move(found).error();
  std::string id = *std::move(found);
  if (options.previous) id = TRY(PreviousOf(session, id));
  if (options.reopen) {
    cri::ReopenContainerLogRequest request;
    request.set_container_id(id);
    TRY(session.client->Call(&Client::Runtime::ReopenContainerLog, request), StrCat("reopen the log of ", id));
  }
  auto answer = Status(session, id);
  if (!answer && answer.error().code() == Code::kNotFound && IsPod(session, id)) {
    return OfPod(session, options, selection, id);  // a whole id is believed to be a container's
  }
  cri::ContainerStatus status = TRY(std::move(answer));
  if (status.log_path().empty()) return Error(Code::kFailedPrecondition, StrCat("container ", id, " writes no log"));

  LogReading reading{.path = status.log_path(), .follow = options.follow};
  if (options.tail >= 0) reading.tail_lines = static_cast<size_t>(options.tail);
  reading.still_written = [&] {
    auto now = Status(session, id);
    return now.has_value() && now->state() == cri::CONTAINER_RUNNING;
  };
  bool follow = options.follow;
  LogSelector selector(selection, [follow](LogStream stream, std::string_view text) {
    FILE* out = stream == LogStream::kStderr ? stderr : stdout;
    std::fwrite(text.data(), 1, text.size(), out);
    if (follow) std::fflush(out);
  });
  TRY(ReadLog(reading, selector));
  return 0;
}

}  // namespace

void AddLogCommands(CLI::App& app, Session& session) {
  auto* logs = app.add_subcommand("logs", "show the log of a container, or of all containers of a pod");
  auto options = std::make_shared<LogsOptions>();
  logs->add_option("CONTAINER", options->container, "or a pod, when no container is called so");
  logs->add_option("--pod", options->pod, "all containers of this pod, by time");
  logs->add_flag("-f,--follow", options->follow, "go on until the container ends");
  logs->add_option("--tail", options->tail, "only the last N lines (-1: all)");
  logs->add_option("--since", options->since,
                   "only from this time on: 2026-01-02T15:04:05Z, or 10m for ten minutes ago");
  logs->add_flag("-t,--timestamps", options->timestamps, "begin each line with its time");
  logs->add_option("--limit-bytes", options->limit_bytes, "at most so many bytes (-1: all)");
  logs->add_flag("-p,--previous", options->previous, "of the container that ran before this one");
  logs->add_flag("-r,--reopen", options->reopen, "let the runtime reopen the file first");
  logs->add_option("-s,--stream", options->stream, "all, stdout or stderr");
  logs->callback([=, &session] { session.action = [=, &session] { return LogsCommand(session, *options); }; });
}

}  // namespace crisp::ctl
