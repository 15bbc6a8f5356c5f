// top: what uses the node's processors and memory, live on a terminal, or once.
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/terminal.h"
#include "ctl/usage.h"

namespace crisp::ctl {

namespace {

struct TopOptions {
  std::string order = "cpu", pod_namespace;
  double seconds = 2;
  size_t rows = 0;  // 0: as many as there are, or as the terminal holds
  bool once = false, pods = false;
};

struct Look {
  cri::ListContainerStatsResponse stats;
  cri::ListContainersResponse containers;
  cri::ListPodSandboxResponse pods;
};

Result<Look> TakeLook(Session& session) {
  Look look;
  look.stats = TRY(session.client->Call(&Client::Runtime::ListContainerStats, {}));
  look.containers = TRY(session.client->Call(&Client::Runtime::ListContainers, {}));
  look.pods = TRY(session.client->Call(&Client::Runtime::ListPodSandbox, {}));
  return look;
}

std::string Summary(const std::vector<Usage>& usage, const Look& look) {
  double cores = 0;
  uint64_t memory = 0;
  for (const Usage& one : usage) {
    cores += one.cores;
    memory += one.memory_bytes;
  }
  uint64_t room = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return StrCat(look.pods.items_size(), " pods, ", usage.size(), " running containers   cpu ", Percent(cores), "% of ",
                sysconf(_SC_NPROCESSORS_ONLN) * 100, "%   memory ", HumanSize(memory), " of ", HumanSize(room), "\n");
}

std::string Render(const TopOptions& options, UsageOrder order, const Look& now, const Look& before, Colours colours) {
  std::vector<Usage> usage = UsageOf(now.stats, before.stats, now.containers, now.pods);
  std::erase_if(usage, [&](const Usage& u) {
    return !options.pod_namespace.empty() && u.pod_namespace != options.pod_namespace;
  });
  std::string text = Summary(usage, now);
  if (options.pods) usage = ByPod(usage);
  SortUsage(usage, order);
  if (options.rows > 0 && usage.size() > options.rows) usage.resize(options.rows);
  std::vector<std::string> header = {"CPU %", "MEM", "DISK", "SWAP", "NAMESPACE", "POD"};
  if (!options.pods) header.insert(header.end(), {"CONTAINER", "NAME"});
  Table table(header);
  for (const Usage& one : usage) {
    constexpr double kBusy = 0.5;
    std::vector<Cell> row = {Cell(Percent(one.cores), one.cores >= kBusy ? Colour::kYellow : Colour::kNone),
                             HumanSize(one.memory_bytes),
                             HumanSize(one.disk_bytes),
                             HumanSize(one.swap_bytes),
                             one.pod_namespace,
                             one.pod};
    if (!options.pods) row.insert(row.end(), {Cell(ShortId(one.id)), Cell(one.name)});
    table.Add(std::move(row));
  }
  return text + table.Render(colours);
}

// What the key changes; false: the user has seen enough.
bool Obey(char key, TopOptions& options, UsageOrder& order) {
  constexpr char kCtrlC = 3;
  switch (key) {
    case 'q':
    case kCtrlC: return false;
    case 'c': order = UsageOrder::kCpu; break;
    case 'm': order = UsageOrder::kMemory; break;
    case 'd': order = UsageOrder::kDisk; break;
    case 'n': order = UsageOrder::kName; break;
    case 'p': options.pods = !options.pods; break;
    default: break;
  }
  return true;
}

// In a terminal that is raw, lines end in two characters; what does not fit into it is left away.
std::string Screen(const std::string& text) {
  auto size = SizeOfTerminal(STDOUT_FILENO);
  size_t rows = size ? size->height : 24, columns = size ? size->width : 80;
  std::string screen = "\033[H\033[2J";
  std::vector<std::string_view> lines = Split(text, '\n');
  for (size_t i = 0; i < lines.size() && i + 1 < rows; ++i) screen += StrCat(lines[i].substr(0, columns), "\r\n");
  return screen + "\033[2mkeys: c cpu, m memory, d disk, n name, p pods or containers, q ends\033[0m";
}

Result<int> TopOnTerminal(Session& session, TopOptions options, UsageOrder order) {
  RawTerminal raw = TRY(RawTerminal::Make(STDIN_FILENO));
  Look before = TRY(TakeLook(session));
  double wait = std::min(options.seconds, 0.5);  // the first picture comes soon
  while (true) {
    bool key_pressed = Pause(wait, STDIN_FILENO);
    char key = 0;
    if (key_pressed && read(STDIN_FILENO, &key, 1) <= 0) return 0;
    if (key_pressed && !Obey(key, options, order)) break;
    Look now = TRY(TakeLook(session));
    // Without colours: a line may be cut anywhere.
    Print(Screen(Render(options, order, now, before, Colours::kOff)));
    std::fflush(stdout);
    if (!key_pressed) before = std::move(now);
    wait = options.seconds;
  }
  Print("\r\n");
  return 0;
}

Result<int> TopCommand(Session& session, const TopOptions& options) {
  UsageOrder order = TRY(ParseUsageOrder(options.order));
  if (session.terminal && !options.once && isatty(STDIN_FILENO) == 1) return TopOnTerminal(session, options, order);
  Look before = TRY(TakeLook(session));
  Pause(options.seconds, -1);
  Look now = TRY(TakeLook(session));
  Print(Render(options, order, now, before, session.colours));
  return 0;
}

}  // namespace

void AddTopCommands(CLI::App& app, Session& session) {
  auto* top = app.add_subcommand("top", "what uses processors and memory, the busiest first; live on a terminal");
  auto options = std::make_shared<TopOptions>();
  top->add_option("--sort", options->order, "cpu, mem, disk or name (cpu)");
  top->add_option("-s,--seconds", options->seconds, "time between two looks (2)");
  top->add_option("-n,--rows", options->rows, "only the first N");
  top->add_option("--namespace", options->pod_namespace, "only pods of this namespace");
  top->add_flag("-p,--pods", options->pods, "pods, not containers");
  top->add_flag("--once", options->once, "one table and out, as without a terminal");
  SetAction(*top, session, [=, &session] { return TopCommand(session, *options); });
}

}  // namespace crisp::ctl
