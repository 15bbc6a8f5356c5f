// state, list, ps.
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "ocicli/commands.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

Json StateOf(const Session& session, const Record& record) {
  std::string status = StatusOf(session, record);
  Json json = {{"ociVersion", record.oci_version},
               {"id", record.id},
               {"pid", status == "stopped" ? 0 : record.pid},
               {"status", status},
               {"bundle", record.bundle},
               {"rootfs", record.rootfs},
               {"created", FormatRfc3339Nano(record.created_unix_nanos)},
               {"owner", record.owner}};
  json["annotations"] = Json::parse(record.annotations, nullptr, false);
  return json;
}

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

Result<int> State(Session& session, const Flags& flags) {
  Record record = TRY(session.store.Load(flags.words()[0]));
  Print(StateOf(session, record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return 0;
}

std::string OwnerOf(const Session& session, const std::string& id) {
  struct stat st{};
  if (stat(session.store.File(id, "state.json").c_str(), &st) != 0) return "";
  const passwd* user = getpwuid(st.st_uid);
  return user != nullptr ? user->pw_name : StrCat("#", st.st_uid);
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows[0].size(), 12);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size() + 4);
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      std::string cell = row[i];
      if (i + 1 < row.size()) cell.resize(widths[i], ' ');
      out += cell;
    }
    out += "\n";
  }
  return out;
}

Result<int> List(Session& session, const Flags& flags) {
  std::string format = flags.Text("format", "table");
  if (format != "table" && format != "json") return Error(Code::kInvalidArgument, "--format is table or json");
  Json all = Json::array();
  std::vector<std::vector<std::string>> rows = {{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const std::string& id : TRY(session.store.Ids())) {
    Result<Record> record = session.store.Load(id);
    if (!record) {  // gone meanwhile, or not readable: one bad record hides no other
      if (record.error().code() != Code::kNotFound) std::fprintf(stderr, "%s\n", record.error().message().c_str());
      continue;
    }
    Json state = StateOf(session, *record);
    state["owner"] = OwnerOf(session, id);
    rows.push_back({id, StrCat(state["pid"].get<int>()), state["status"], record->bundle, state["created"], state["owner"]});
    all.push_back(std::move(state));
  }
  if (flags.On("quiet")) {
    for (size_t i = 1; i < rows.size(); ++i) Print(rows[i][0] + "\n");
  } else {
    Print(format == "json" ? DumpJson(all) + "\n" : Table(rows));
  }
  return 0;
}

// The lines of ps(1) that are of the container: which column has the number the heading says.
Result<std::string> LinesOf(const std::string& out, const std::vector<pid_t>& pids) {
  std::string kept;
  std::optional<size_t> column;
  for (std::string_view line : Split(out, '\n')) {
    std::vector<std::string_view> words = SplitWords(line);
    if (!column) {
      auto found = std::find(words.begin(), words.end(), "PID");
      if (found == words.end()) return Error(Code::kInvalidArgument, "ps prints no column PID");
      column = static_cast<size_t>(found - words.begin());
      kept += StrCat(line, "\n");
      continue;
    }
    auto pid = *column < words.size() ? ParseInt<pid_t>(words[*column]) : std::nullopt;
    if (pid && std::find(pids.begin(), pids.end(), *pid) != pids.end()) kept += StrCat(line, "\n");
  }
  return kept;
}

Result<int> Ps(Session& session, const Flags& flags) {
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  std::vector<pid_t> pids = TRY(cgroups->Processes(record.cgroup_path));
  std::string format = flags.Text("format", "table");
  if (format == "json") {
    Print(DumpJson(Json(pids)) + "\n");
    return 0;
  }
  if (format != "table") return Error(Code::kInvalidArgument, "--format is table or json");
  std::vector<std::string> args(flags.words().begin() + 1, flags.words().end());
  if (args.empty()) args = {"-ef"};
  sys::RunResult ps = TRY(sys::Run(Ctx(), {.program = "ps", .args = args}));
  if (ps.status.code != 0) return Error(Code::kUnknown, StrCat("ps: ", Trim(ps.err)));
  Print(TRY(LinesOf(ps.out, pids)));
  return 0;
}

}  // namespace

std::vector<Command> QueryCommands() {
  std::vector<FlagSpec> format = {{"format,f", FlagSpec::kText, "table or json"}};
  return {
      {"state", "<container>", "print the spec's state object", 1, 1, {}, State},
      {"list", "", "print all containers", 0, 0,
       {{"format,f", FlagSpec::kText, "table or json"}, {"quiet,q", FlagSpec::kBool, "ids only"}}, List},
      {"ps", "<container> [ps options]", "print its processes", 1, SIZE_MAX, format, Ps},
  };
}

}  // namespace crisp::ocicli
