// events: what a container uses, in the form of runc's `events`, and when memory ran out in it.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/json.h"
#include "base/strings.h"
#include "ocicli/commands.h"
#include "ocicli/store.h"
#include "sys/file.h"

namespace crisp::ocicli {

namespace {

void PutIf(Json& object, const char* name, const std::optional<uint64_t>& value) {
  if (value) object[name] = *value;
}

Json CpuStats(const cgroup::Details& details) {
  Json usage = Json::object(), throttling = Json::object();
  PutIf(usage, "total", details.usage.cpu_nanos);
  PutIf(usage, "user", details.cpu_user_nanos);
  PutIf(usage, "kernel", details.cpu_system_nanos);
  PutIf(throttling, "periods", details.cpu_periods);
  PutIf(throttling, "throttledPeriods", details.cpu_throttled_periods);
  PutIf(throttling, "throttledTime", details.cpu_throttled_nanos);
  return {{"usage", usage}, {"throttling", throttling}};
}

Json MemoryStats(const cgroup::Details& details) {
  Json memory = Json::object(), usage = Json::object(), raw = Json::object(), swap = Json::object();
  PutIf(memory, "cache", details.cache_bytes);
  PutIf(usage, "usage", details.usage.memory_bytes);
  PutIf(usage, "max", details.memory_max_bytes);
  PutIf(usage, "failcnt", details.limit_hits);
  if (details.usage.available_bytes && details.usage.working_set_bytes) {
    usage["limit"] = *details.usage.available_bytes + *details.usage.working_set_bytes;
  }
  PutIf(swap, "usage", details.usage.swap_bytes);
  PutIf(raw, "rss", details.usage.rss_bytes);
  PutIf(raw, "mapped_file", details.mapped_file_bytes);
  PutIf(raw, "pgfault", details.usage.page_faults);
  PutIf(raw, "pgmajfault", details.usage.major_page_faults);
  memory["usage"] = usage;
  memory["swap"] = swap;
  memory["kernel"] = Json::object();
  PutIf(memory["kernel"], "usage", details.kernel_bytes);
  memory["raw"] = raw;
  return memory;
}

Json IoStats(const cgroup::Details& details) {
  Json bytes = Json::array(), counts = Json::array();
  auto entry = [](const cgroup::Details::DeviceIo& io, const char* op, uint64_t value) {
    return Json{{"major", io.major}, {"minor", io.minor}, {"op", op}, {"value", value}};
  };
  for (const cgroup::Details::DeviceIo& io : details.io) {
    bytes.push_back(entry(io, "Read", io.read_bytes));
    bytes.push_back(entry(io, "Write", io.write_bytes));
    counts.push_back(entry(io, "Read", io.reads));
    counts.push_back(entry(io, "Write", io.writes));
  }
  return {{"ioServiceBytesRecursive", bytes}, {"ioServicedRecursive", counts}};
}

Json StatsOf(const std::string& id, const cgroup::Details& details) {
  Json pids = Json::object(), hugetlb = Json::object();
  PutIf(pids, "current", details.usage.processes);
  if (details.tasks_max.value_or(0) > 0) pids["limit"] = *details.tasks_max;
  for (const cgroup::Details::Hugetlb& each : details.hugetlb) {
    hugetlb[each.page_size] = {{"usage", each.bytes}};
    PutIf(hugetlb[each.page_size], "max", each.max_bytes);
  }
  Json data = {{"cpu", CpuStats(details)}, {"memory", MemoryStats(details)}, {"pids", pids}, {"blkio", IoStats(details)}};
  data["hugetlb"] = hugetlb;
  return {{"type", "stats"}, {"id", id}, {"data", data}};
}

Result<> Print(const Json& event) {
  std::string line = DumpJson(event) + "\n";
  return sys::WriteAll(sys::BorrowedFd(1), line);
}

Result<> PrintStats(const cgroup::Cgroups& cgroups, const Record& record) {
  return Print(StatsOf(record.id, TRY(cgroups.ReadDetails(record.cgroup_path))));
}

// Readable when memory may have run out: v1 by an eventfd, v2 by changes of memory.events.
struct OomWatch {
  sys::UniqueFd file, notifier;
};
Result<OomWatch> WatchOom(const std::string& file) {
  OomWatch watch;
  watch.file = TRY(sys::Open(file, O_RDONLY));
  std::string dir = file.substr(0, file.rfind('/'));
  if (file.ends_with("oom_control")) {
    watch.notifier = sys::UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!watch.notifier.ok()) return Errno(errno, "eventfd");
    TRY(sys::WriteExisting(dir + "/cgroup.event_control", StrCat(watch.notifier.get(), " ", watch.file.get())));
  } else {
    watch.notifier = sys::UniqueFd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch.notifier.ok() || inotify_add_watch(watch.notifier.get(), file.c_str(), IN_MODIFY) < 0) return Errno(errno, "watch " + file);
  }
  return watch;
}

Result<int64_t> OomKills(const OomWatch& watch) {
  char text[4096];
  ssize_t n = pread(watch.file.get(), text, sizeof text, 0);
  if (n < 0) return Errno(errno, "read oom events");
  for (std::string_view line : Split(std::string_view(text, static_cast<size_t>(n)), '\n')) {
    constexpr std::string_view kName = "oom_kill ";
    if (line.starts_with(kName)) return ParseInt<int64_t>(line.substr(kName.size())).value_or(0);
  }
  return 0;
}

Result<int> Follow(const cgroup::Cgroups& cgroups, const Record& record, int interval_ms) {
  sys::UniqueFd process = TRY(OpenProcess(record));
  OomWatch watch;
  int64_t kills = 0;
  for (const std::string& file : cgroups.OomEventFiles(record.cgroup_path)) {
    watch = TRY(WatchOom(file));
    kills = TRY(OomKills(watch));
  }
  while (true) {
    pollfd polls[2] = {{process.get(), POLLIN, 0}, {watch.notifier.get(), POLLIN, 0}};
    int ready = poll(polls, 2, interval_ms);
    if (ready < 0 && errno != EINTR) return Errno(errno, "poll");
    if (polls[1].revents != 0) {
      char buffer[4096];
      while (read(watch.notifier.get(), buffer, sizeof buffer) > 0) {
      }
      Result<int64_t> now = OomKills(watch);
      if (now && *now > kills) TRY(Print({{"type", "oom"}, {"id", record.id}}));
      if (now) kills = *now;
    }
    if (polls[0].revents != 0) return 0;
    if (ready == 0) TRY(PrintStats(cgroups, record));
  }
}

// "5s", "100ms", "1m", as Go writes durations of one unit.
Result<int> ParseInterval(const std::string& text) {
  for (auto [unit, factor] : {std::pair<std::string_view, int>{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}) {
    if (!text.ends_with(unit)) continue;
    auto number = ParseInt<int>(std::string_view(text).substr(0, text.size() - unit.size()));
    if (number && *number > 0 && *number <= 3'600'000 / factor) return *number * factor;
  }
  return Error(Code::kInvalidArgument, StrCat("--interval ", Quote(text), " is not a time like 5s"));
}

Result<int> Events(Session& session, const Flags& flags) {
  Record record = TRY(session.store.Load(flags.words()[0]));
  int interval = TRY(ParseInterval(flags.Text("interval", "5s")));
  std::string status = StatusOf(session, record);
  if (status == "stopped") return Error(Code::kFailedPrecondition, StrCat("container ", record.id, " is not running"));
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  if (!flags.On("stats")) return Follow(*cgroups, record, interval);
  TRY(PrintStats(*cgroups, record));
  return 0;
}

}  // namespace

std::vector<Command> EventsCommands() {
  return {{"events", "<container>", "print statistics and out-of-memory events", 1, 1,
           {{"interval", FlagSpec::kText, "time between statistics (5s)"}, {"stats", FlagSpec::kBool, "statistics once"}}, Events}};
}

}  // namespace crisp::ocicli
