// doctor: what a node needs of its runtime, asked one by one, with what to do about what is missing.
#include <sys/stat.h>

#include <cerrno>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

class Report {
 public:
  explicit Report(Colours colours) : colours_(colours) {}
  void Good(std::string_view what, std::string_view seen) { Line("ok", Colour::kGreen, what, seen); }
  void Bad(std::string_view what, std::string_view seen, std::string_view advice) {
    Line("BAD", Colour::kRed, what, seen);
    Print(StrCat("      ", advice, "\n"));
    bad_ = true;
  }
  int code() const { return bad_ ? 1 : 0; }

 private:
  void Line(const char* verdict, Colour colour, std::string_view what, std::string_view seen) {
    std::string padded = verdict + std::string(6 - std::string_view(verdict).size(), ' ');
    Print(StrCat(Paint(padded, colour, colours_), what, ": ", Printable(std::string(seen)), "\n"));
  }
  Colours colours_;
  bool bad_ = false;
};

// Why nobody answers, as far as the socket's file tells.
std::string SocketAdvice(const std::string& endpoint) {
  std::string path = endpoint.starts_with("unix://") ? endpoint.substr(7) : endpoint;
  if (!path.starts_with('/')) return "is the address right? -r names another one";
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    return StrCat(Errno(errno, StrCat("look at ", path)).message(),
                  ": start crispd (systemctl start crispd), or name its socket by -r");
  }
  if (!S_ISSOCK(status.st_mode)) return StrCat(path, " is no socket: name the runtime's by -r");
  return StrCat(path, " is there: are you root, and is crispd running (systemctl status crispd)?");
}

std::string AdviceFor(const std::string& condition) {
  if (condition == "NetworkReady") {
    return "put a CNI configuration into the runtime's network directory (/etc/cni/net.d)";
  }
  return "the runtime's log says more (journalctl -u crispd)";
}

Result<> CheckStatus(Session& session, Report& report) {
  auto answer = TRY(session.client->Call(&Client::Runtime::Status, {}));
  for (const auto& condition : answer.status().conditions()) {
    if (condition.status()) {
      report.Good(condition.type(), "true");
    } else {
      report.Bad(condition.type(), StrCat(condition.reason(), ": ", condition.message()), AdviceFor(condition.type()));
    }
  }
  std::string handlers;
  for (const auto& handler : answer.runtime_handlers()) {
    handlers += StrCat(handlers.empty() ? "" : ", ", handler.name().empty() ? "(default)" : handler.name());
  }
  report.Good("runtime handlers", handlers.empty() ? "not told" : handlers);
  return {};
}

Result<> CheckImages(Session& session, Report& report) {
  auto answer = TRY(session.client->Call(&Client::Images::ImageFsInfo, {}));
  for (const auto& fs : answer.image_filesystems()) {
    report.Good("images", StrCat(fs.fs_id().mountpoint(), ", ", HumanSize(fs.used_bytes().value())));
  }
  return {};
}

Result<> CheckCgroups(Session& session, Report& report) {
  auto answer = TRY(session.client->Call(&Client::Runtime::RuntimeConfig, {}));
  report.Good("cgroup driver", StrCat(cri::CgroupDriver_Name(answer.linux().cgroup_driver()),
                                      " (a kubelet older than 1.28 has to be told the same)"));
  return {};
}

Result<int> DoctorCommand(Session& session) {
  Report report(session.colours);
  const std::string& endpoint = session.client->runtime_endpoint();
  auto version = session.client->Call(&Client::Runtime::Version, {});
  if (!version) {
    report.Bad("runtime", version.error().message(), SocketAdvice(endpoint));
    return report.code();
  }
  report.Good("runtime", StrCat(version->runtime_name(), " ", version->runtime_version(), " on ", endpoint));
  struct Check {
    const char* what;
    Result<> (*ask)(Session&, Report&);
  };
  for (const Check& check :
       {Check{"status", CheckStatus}, {"image service", CheckImages}, {"runtime-config", CheckCgroups}}) {
    if (auto asked = check.ask(session, report); !asked) {
      report.Bad(check.what, asked.error().message(), "the runtime's log says more (journalctl -u crispd)");
    }
  }
  return report.code();
}

}  // namespace

void AddDoctorCommands(CLI::App& app, Session& session) {
  auto* doctor = app.add_subcommand("doctor", "is this runtime ready for a node, and what to do if not");
  doctor->callback([&session] { session.action = [&session] { return DoctorCommand(session); }; });
}

}  // namespace crisp::ctl
