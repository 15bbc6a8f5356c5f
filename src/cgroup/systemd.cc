#include "cgroup/systemd.h"

#include <systemd/sd-bus.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "base/strings.h"
#include "cgroup/place.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

constexpr char kDestination[] = "org.freedesktop.systemd1";
constexpr char kPath[] = "/org/freedesktop/systemd1";
constexpr char kManager[] = "org.freedesktop.systemd1.Manager";
constexpr char kPrivateSocket[] = "/run/systemd/private";
constexpr uint64_t kInfinity = UINT64_MAX;

struct Unref {
  void operator()(sd_bus* bus) const { sd_bus_flush_close_unref(bus); }
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
  void operator()(sd_bus_slot* slot) const { sd_bus_slot_unref(slot); }
};
using Bus = std::unique_ptr<sd_bus, Unref>;
using Message = std::unique_ptr<sd_bus_message, Unref>;
using Slot = std::unique_ptr<sd_bus_slot, Unref>;

struct BusError {
  sd_bus_error error = SD_BUS_ERROR_NULL;
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { sd_bus_error_free(&error); }
  bool Is(const char* name) const { return sd_bus_error_has_name(&error, name) > 0; }
  std::string text() const { return error.message != nullptr ? error.message : ""; }
};

Error Unavailable(int r, const char* what) { return Errno(-r, what).As(Code::kUnavailable); }

// Without a bus daemon: as systemctl does it.
Result<Bus> OpenPrivate() {
  sd_bus* raw = nullptr;
  if (int r = sd_bus_new(&raw); r < 0) return Unavailable(r, "sd_bus_new");
  Bus bus(raw);
  int r = sd_bus_set_address(raw, StrCat("unix:path=", kPrivateSocket).c_str());
  if (r >= 0) r = sd_bus_start(raw);
  if (r < 0) return Unavailable(r, "connect to systemd");
  return bus;
}

Result<Bus> Open() {
  if (sys::Exists(kPrivateSocket)) {
    if (Result<Bus> bus = OpenPrivate()) return bus;
  }
  sd_bus* raw = nullptr;
  if (int r = sd_bus_open_system(&raw); r < 0) return Unavailable(r, "connect to the system bus");
  return Bus(raw);
}

// Jobs that have ended, until ours is among them.
struct Jobs {
  std::string wanted, result;
  std::vector<std::pair<std::string, std::string>> ended;

  void Add(std::string job, std::string how) {
    if (job == wanted) result = how;
    ended.emplace_back(std::move(job), std::move(how));
  }
  void Want(std::string job) {
    wanted = std::move(job);
    for (const auto& [each, how] : ended) {
      if (each == wanted) result = how;
    }
  }
};

int OnJobRemoved(sd_bus_message* message, void* data, sd_bus_error*) {
  uint32_t id = 0;
  const char *job = nullptr, *unit = nullptr, *result = nullptr;
  if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) >= 0) static_cast<Jobs*>(data)->Add(job, result);
  return 0;
}

Result<Message> NewCall(sd_bus* bus, const char* member) {
  sd_bus_message* raw = nullptr;
  int r = sd_bus_message_new_method_call(bus, &raw, kDestination, kPath, kManager, member);
  if (r < 0) return Unavailable(r, "new bus message");
  return Message(raw);
}

Result<Message> StartCall(sd_bus* bus, const Unit& unit) {
  Message call = TRY(NewCall(bus, "StartTransientUnit"));
  sd_bus_message* m = call.get();
  int r = 0;
  auto add = [&](auto... args) {
    if (r >= 0) r = sd_bus_message_append(m, args...);
  };
  add("ss", unit.name.c_str(), "fail");
  if (r >= 0) r = sd_bus_message_open_container(m, 'a', "(sv)");
  bool is_scope = !unit.slice.empty();
  add("(sv)", "Description", "s", StrCat(is_scope ? "container " : "pod ", unit.name).c_str());
  add("(sv)", "DefaultDependencies", "b", 0);
  add("(sv)", "CollectMode", "s", "inactive-or-failed");
  if (is_scope) {
    add("(sv)", "Slice", "s", unit.slice.c_str());
    add("(sv)", "Delegate", "b", 1);
    add("(sv)", "PIDs", "au", 1, static_cast<uint32_t>(unit.pid));
  }
  for (const char* accounting : {"CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"}) {
    add("(sv)", accounting, "b", 1);
  }
  for (const auto& [name, value] : unit.properties) add("(sv)", name.c_str(), "t", value);
  if (r >= 0) r = sd_bus_message_close_container(m);
  if (r >= 0) r = sd_bus_message_append(m, "a(sa(sv))", 0);
  if (r < 0) return Unavailable(r, "fill bus message");
  return call;
}

uint64_t MicrosLeft(const Ctx& ctx) { return std::max<uint64_t>(1, static_cast<uint64_t>(ctx.PollTimeoutMs()) * 1000); }

// The job that `call` has given.
Result<std::string> CallForJob(const Ctx& ctx, sd_bus* bus, sd_bus_message* call, const std::string& doing) {
  BusError error;
  sd_bus_message* raw = nullptr;
  int r = sd_bus_call(bus, call, MicrosLeft(ctx), &error.error, &raw);
  Message reply(raw);
  if (r < 0) {
    std::string what = StrCat(doing, ": ", error.text());
    if (error.Is("org.freedesktop.systemd1.UnitExists")) return Error(Code::kAlreadyExists, what);
    return error.Is("org.freedesktop.systemd1.NoSuchUnit") ? Error(Code::kNotFound, what) : Errno(-r, what);
  }
  const char* job = nullptr;
  if (r = sd_bus_message_read(reply.get(), "o", &job); r < 0) return Errno(-r, "read systemd's reply");
  return std::string(job);
}

void ResetFailed(const Ctx& ctx, sd_bus* bus, const std::string& unit) {
  Result<Message> call = NewCall(bus, "ResetFailedUnit");
  if (!call || sd_bus_message_append(call->get(), "s", unit.c_str()) < 0) return;
  BusError error;
  sd_bus_call(bus, call->get(), MicrosLeft(ctx), &error.error, nullptr);
}

Result<> WaitForJob(const Ctx& ctx, sd_bus* bus, const Jobs& jobs, const std::string& doing) {
  while (jobs.result.empty()) {
    int r = sd_bus_process(bus, nullptr);
    if (r < 0) return Unavailable(r, "systemd went away");
    if (r > 0) continue;
    TRY(ctx.Check(), doing);
    if (r = sd_bus_wait(bus, MicrosLeft(ctx)); r < 0 && r != -EINTR) return Unavailable(r, "wait for systemd");
  }
  if (jobs.result == "done") return {};
  return Error(Code::kInternal, StrCat(doing, ": the job's result is ", Quote(jobs.result)));
}

// A connection that hears of the ends of jobs.
struct JobBus {
  Jobs jobs;
  Bus bus;
  Slot slot;

  Result<> Connect() {
    bus = TRY(Open());
    sd_bus_slot* raw = nullptr;
    int r = sd_bus_match_signal(bus.get(), &raw, nullptr, kPath, kManager, "JobRemoved", OnJobRemoved, &jobs);
    if (r < 0) return Unavailable(r, "listen to systemd");
    slot.reset(raw);
    return {};
  }
};

}  // namespace

Result<Unit> UnitOf(const std::string& kernel_path) {
  size_t end = kernel_path.rfind('/');
  Unit unit;
  unit.name = kernel_path.substr(end + 1);
  if (Result<std::string> slice = ExpandSlice(unit.name); slice && *slice == kernel_path) return unit;
  std::string parent = end == std::string::npos ? "" : kernel_path.substr(0, end);
  unit.slice = parent.empty() ? "-.slice" : parent.substr(parent.rfind('/') + 1);
  Result<std::string> expanded = ExpandSlice(unit.slice);
  if (!unit.name.ends_with(".scope") || !expanded || *expanded != (parent.empty() ? "/" : parent)) {
    return Error(Code::kInvalidArgument, StrCat("cgroup ", Quote(kernel_path), " is not a scope or a slice of systemd"));
  }
  return unit;
}

std::vector<std::pair<std::string, uint64_t>> UnitProperties(const Resources& resources, const Layout& layout, bool fresh) {
  const Limits& limits = resources.limits;
  std::vector<std::pair<std::string, uint64_t>> out;
  auto number = [](int64_t value) { return value < 0 ? kInfinity : static_cast<uint64_t>(value); };
  if (limits.cpu_shares > 0) {
    if (layout.unified) {
      out.emplace_back("CPUWeight", WeightOfShares(limits.cpu_shares));
    } else {
      out.emplace_back("CPUShares", static_cast<uint64_t>(limits.cpu_shares));
    }
  }
  if (limits.cpu_quota_micros < 0 && !fresh) out.emplace_back("CPUQuotaPerSecUSec", kInfinity);
  if (limits.cpu_quota_micros > 0) {
    int64_t period = limits.cpu_period_micros > 0 ? limits.cpu_period_micros : 100'000;
    // systemd counts in whole percents of a CPU, and shall not allow less.
    uint64_t per_second = static_cast<uint64_t>(limits.cpu_quota_micros) * 1'000'000 / static_cast<uint64_t>(period);
    out.emplace_back("CPUQuotaPerSecUSec", (per_second + 9'999) / 10'000 * 10'000);
    out.emplace_back("CPUQuotaPeriodUSec", static_cast<uint64_t>(period));
  }
  if (limits.memory_bytes != 0) out.emplace_back(layout.unified ? "MemoryMax" : "MemoryLimit", number(limits.memory_bytes));
  if (layout.unified && limits.memory_swap_bytes != 0) {
    int64_t swap = limits.memory_swap_bytes < 0 ? -1 : limits.memory_swap_bytes - std::max<int64_t>(limits.memory_bytes, 0);
    out.emplace_back("MemorySwapMax", number(swap));
  }
  std::optional<uint64_t> tasks;
  if (fresh) tasks = kInfinity;  // else systemd's own default for services would hold
  for (const FileWrite& write : resources.writes) {
    if (write.file == "pids.max") tasks = ParseInt<uint64_t>(write.value).value_or(kInfinity);
  }
  if (tasks) out.emplace_back("TasksMax", *tasks);
  return out;
}

Result<> StartUnit(const Ctx& ctx, const Unit& unit) {
  const std::string doing = StrCat("systemd: start ", unit.name);
  JobBus systemd;
  TRY(systemd.Connect());
  auto start = [&]() -> Result<std::string> {
    Message call = TRY(StartCall(systemd.bus.get(), unit));
    return CallForJob(ctx, systemd.bus.get(), call.get(), doing);
  };
  Result<std::string> job = start();
  if (!job && job.error().code() == Code::kAlreadyExists) {
    ResetFailed(ctx, systemd.bus.get(), unit.name);
    job = start();
  }
  if (!job) return std::move(job).error();
  systemd.jobs.Want(*std::move(job));
  return WaitForJob(ctx, systemd.bus.get(), systemd.jobs, doing);
}

Result<> StopUnit(const Ctx& ctx, const Unit& unit) {
  const std::string doing = StrCat("systemd: stop ", unit.name);
  JobBus systemd;
  TRY(systemd.Connect());
  Message call = TRY(NewCall(systemd.bus.get(), "StopUnit"));
  int r = sd_bus_message_append(call.get(), "ss", unit.name.c_str(), "replace");
  if (r < 0) return Unavailable(r, "fill bus message");
  Result<std::string> job = CallForJob(ctx, systemd.bus.get(), call.get(), doing);
  if (!job && job.error().code() == Code::kNotFound) return {};
  if (!job) return std::move(job).error();
  systemd.jobs.Want(*std::move(job));
  return WaitForJob(ctx, systemd.bus.get(), systemd.jobs, doing);
}

Result<> SetUnitProperties(const Ctx& ctx, const Unit& unit) {
  if (unit.properties.empty()) return {};
  Bus bus = TRY(Open());
  Message call = TRY(NewCall(bus.get(), "SetUnitProperties"));
  int r = sd_bus_message_append(call.get(), "sb", unit.name.c_str(), 1);
  if (r >= 0) r = sd_bus_message_open_container(call.get(), 'a', "(sv)");
  for (const auto& [name, value] : unit.properties) {
    if (r >= 0) r = sd_bus_message_append(call.get(), "(sv)", name.c_str(), "t", value);
  }
  if (r >= 0) r = sd_bus_message_close_container(call.get());
  if (r < 0) return Unavailable(r, "fill bus message");
  BusError error;
  r = sd_bus_call(bus.get(), call.get(), MicrosLeft(ctx), &error.error, nullptr);
  if (r >= 0) return {};
  std::string what = StrCat("systemd: limits of ", unit.name, ": ", error.text());
  return error.Is("org.freedesktop.systemd1.NoSuchUnit") ? Error(Code::kNotFound, what) : Errno(-r, what);
}

}  // namespace crisp::cgroup
