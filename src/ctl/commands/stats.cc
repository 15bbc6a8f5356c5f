// stats, statsp: what containers and pods use. CPU is the difference of two readings, where the runtime gives no rate.
// metricsp, metricdescs: what the kubelet shows as metrics, and the names and labels of that.
#include <algorithm>
#include <cstdio>
#include <map>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/usage.h"

namespace crisp::ctl {

namespace {

struct StatsOptions {
  std::string id, pod;
  std::vector<std::string> labels;
  OutputOption output;
  double seconds = 1;
  bool all = false, watch = false;
};

// The order of crictl, and of one look after the other.
template <class List>
Result<List> ById(Result<List> list) {
  if (list) {
    std::ranges::sort(*list->mutable_stats(), {}, [](const auto& stats) { return stats.attributes().id(); });
  }
  return list;
}

Result<cri::ListContainerStatsResponse> Containers(Session& session, const StatsOptions& options) {
  cri::ListContainerStatsRequest request;
  if (!options.id.empty()) request.mutable_filter()->set_id(options.id);
  if (!options.pod.empty()) request.mutable_filter()->set_pod_sandbox_id(TRY(FindPod(*session.client, options.pod)));
  TRY(AddPairs(options.labels, "--label", *request.mutable_filter()->mutable_label_selector()));
  return ById(session.client->Call(&Client::Runtime::ListContainerStats, request));
}

std::string ContainerTable(Session& session, const cri::ListContainerStatsResponse& now,
                           const cri::ListContainerStatsResponse& before) {
  std::map<std::string, const cri::CpuUsage*> earlier;
  for (const auto& stats : before.stats()) earlier[stats.attributes().id()] = &stats.cpu();
  Table table({"CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES", "SWAP"});
  for (const auto& stats : now.stats()) {
    table.Add(
        {ShortId(stats.attributes().id()), stats.attributes().metadata().name(),
         Percent(Cores(stats.cpu(), earlier[stats.attributes().id()])),
         HumanSize(stats.memory().working_set_bytes().value()), HumanSize(stats.writable_layer().used_bytes().value()),
         StrCat(stats.writable_layer().inodes_used().value()), HumanSize(stats.swap().swap_usage_bytes().value())});
  }
  return table.Render(session.colours);
}

Result<cri::ListPodSandboxStatsResponse> Pods(Session& session, const StatsOptions& options) {
  cri::ListPodSandboxStatsRequest request;
  TRY(AddPairs(options.labels, "--label", *request.mutable_filter()->mutable_label_selector()));
  if (!options.id.empty()) request.mutable_filter()->set_id(TRY(FindPod(*session.client, options.id)));
  return ById(session.client->Call(&Client::Runtime::ListPodSandboxStats, request));
}

std::string PodTable(Session& session, const cri::ListPodSandboxStatsResponse& now,
                     const cri::ListPodSandboxStatsResponse& before) {
  std::map<std::string, const cri::CpuUsage*> earlier;
  for (const auto& stats : before.stats()) earlier[stats.attributes().id()] = &stats.linux().cpu();
  Table table({"POD", "POD ID", "CPU %", "MEM"});
  for (const auto& stats : now.stats()) {
    table.Add({stats.attributes().metadata().name(), ShortId(stats.attributes().id()),
               Percent(Cores(stats.linux().cpu(), earlier[stats.attributes().id()])),
               HumanSize(stats.linux().memory().working_set_bytes().value())});
  }
  return table.Render(session.colours);
}

template <class List, class Render>
Result<int> StatsCommand(Session& session, const StatsOptions& options, List list, Render render) {
  Output format = TRY(options.output.Get());
  auto before = TRY(list(session, options));
  if (!format.IsTable() && !options.watch) {
    TRY(PrintMessage(before, format));
    return 0;
  }
  do {
    Pause(options.seconds, -1);
    auto now = TRY(list(session, options));
    if (options.watch && session.terminal) Print("\033[H\033[2J");
    if (format.IsTable()) {
      Print(render(session, now, before));
    } else {
      TRY(PrintMessage(now, format));
    }
    std::fflush(stdout);
    before = std::move(now);
  } while (options.watch);
  return 0;
}

Result<Output> DocumentFormat(const OutputOption& output) {
  Output format = TRY(output.Get());
  if (format.IsTable()) return Error(Code::kInvalidArgument, "there is no table of this: -o json, yaml or go-template");
  return format;
}

Result<int> MetricsCommand(Session& session, const StatsOptions& options) {
  Output format = TRY(DocumentFormat(options.output));
  while (true) {
    auto metrics = TRY(session.client->Call(&Client::Runtime::ListPodSandboxMetrics, {}));
    TRY(PrintMessage(metrics, format));
    if (!options.watch) return 0;
    std::fflush(stdout);
    Pause(options.seconds, -1);
  }
}

}  // namespace

void AddStatsCommands(CLI::App& app, Session& session) {
  auto* stats = app.add_subcommand("stats", "what containers use");
  auto options = std::make_shared<StatsOptions>();
  stats->add_option("CONTAINER,--id", options->id, "beginning of the id");
  stats->add_option("-p,--pod", options->pod, "of this pod");
  stats->add_option("--label", options->labels, "key=value, repeated")->allow_extra_args(false);
  stats->add_flag("-a,--all", options->all, "accepted for crictl's sake: only running containers use anything");
  stats->add_option("-s,--seconds", options->seconds, "time between two readings");
  stats->add_flag("-w,--watch", options->watch, "again and again");
  AddOutput(*stats, options->output, "table");
  stats->callback([=, &session] {
    session.action = [=, &session] { return StatsCommand(session, *options, Containers, ContainerTable); };
  });

  auto* statsp = app.add_subcommand("statsp", "what pods use");
  auto pod_options = std::make_shared<StatsOptions>();
  statsp->add_option("POD,--id", pod_options->id);
  statsp->add_option("--label", pod_options->labels, "key=value, repeated")->allow_extra_args(false);
  statsp->add_option("-s,--seconds", pod_options->seconds, "time between two readings");
  statsp->add_flag("-w,--watch", pod_options->watch, "again and again");
  AddOutput(*statsp, pod_options->output, "table");
  statsp->callback([=, &session] {
    session.action = [=, &session] { return StatsCommand(session, *pod_options, Pods, PodTable); };
  });

  auto* metricsp = app.add_subcommand("metricsp", "metrics of pods and their containers");
  auto metrics_options = std::make_shared<StatsOptions>();
  metricsp->add_option("-s,--seconds", metrics_options->seconds, "time between two readings");
  metricsp->add_flag("-w,--watch", metrics_options->watch, "again and again");
  AddOutput(*metricsp, metrics_options->output, "json");
  metricsp->callback(
      [=, &session] { session.action = [=, &session] { return MetricsCommand(session, *metrics_options); }; });

  auto* metricdescs = app.add_subcommand("metricdescs", "names and labels of metrics");
  auto output = std::make_shared<OutputOption>();
  AddOutput(*metricdescs, *output, "json");
  metricdescs->callback([=, &session] {
    session.action = [=, &session]() -> Result<int> {
      Output format = TRY(DocumentFormat(*output));
      auto descriptors = TRY(session.client->Call(&Client::Runtime::ListMetricDescriptors, {}));
      TRY(PrintMessage(descriptors, format));
      return 0;
    };
  });
}

}  // namespace crisp::ctl
