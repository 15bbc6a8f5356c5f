#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/hint.h"
#include "ctl/settings.h"

namespace crisp::ctl {

namespace {

// A line from stdin; a terminal does not show it.
Result<std::string> ReadPassword() {
  termios before{};
  bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    std::fputs("Password: ", stderr);
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &silent);
  }
  std::string line;
  bool got = static_cast<bool>(std::getline(std::cin, line));
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    std::fputc('\n', stderr);
  }
  if (!got) return Error(Code::kInvalidArgument, "no password on stdin");
  return line;
}

}  // namespace

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void SetAction(CLI::App& command, Session& session, std::function<Result<int>()> action) {
  command.callback([&command, &session, action = std::move(action)] {
    if (command.get_subcommands().empty()) session.action = action;
  });
}

void PrintError(Session& session, const Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", session.program.c_str(), Printable(error.message()).c_str());
  HintContext context{.program = session.program, .command = session.command, .sockets = SocketsHere()};
  if (session.client != nullptr) context.endpoint = session.client->runtime_endpoint();
  std::string hint = HintFor(error, context);
  if (hint == session.hinted) return;
  std::fprintf(stderr, "  → %s\n", Printable(hint).c_str());
  session.hinted = std::move(hint);
}

bool Pause(double seconds, int fd) {
  pollfd wanted{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wanted, 1, static_cast<int>(std::clamp(seconds, 0.1, 3600.0) * 1000)) > 0;
}

Result<Output> OutputOption::Get() const {
  Output output;
  if (text == "json") {
    output.format = OutputFormat::kJson;
  } else if (text == "yaml") {
    output.format = OutputFormat::kYaml;
  } else if (text == "go-template") {
    if (go_template.empty()) {
      return Error(Code::kInvalidArgument, "-o go-template wants --template, like '{{.status.id}}'");
    }
    output.format = OutputFormat::kGoTemplate;
    output.go_template = std::make_shared<const GoTemplate>(TRY(GoTemplate::Parse(go_template)));
  } else if (text != "table" && !text.empty()) {
    return Error(Code::kInvalidArgument,
                 StrCat("unknown output format ", Quote(text), " (json, yaml, go-template, table)"));
  }
  return output;
}

void AddOutput(CLI::App& command, OutputOption& output, const char* fallback) {
  output.text = fallback;
  command.add_option("-o,--output", output.text, StrCat("json, yaml, go-template or table (", fallback, ")"));
  command.add_option("--template", output.go_template, "with -o go-template: Go's text/template");
}

Result<> PrintDocument(const Json& document, const Output& output) {
  if (output.format == OutputFormat::kGoTemplate) {
    Print(TRY(output.go_template->Execute(document)) + "\n");
  } else {
    Print(RenderDocument(document, output.format));
  }
  return {};
}

Result<> PrintMessage(const google::protobuf::Message& message, const Output& output) {
  return PrintDocument(TRY(MessageToJson(message)), output);
}

Result<> PrintStatuses(std::vector<Json> statuses, const Output& output) {
  if (statuses.empty()) return {};
  return PrintDocument(statuses.size() == 1 ? std::move(statuses[0]) : Json(std::move(statuses)), output);
}

void AddAuth(CLI::App& command, AuthOptions& auth) {
  command.add_option("--creds", auth.creds, "USER[:PASSWORD] for the registry")->envname("CRICTL_CREDS");
  command.add_option("--auth", auth.auth, "base64 of USER:PASSWORD")->envname("CRICTL_AUTH");
  command.add_option("-u,--username", auth.username, "user; the password is read from the terminal");
}

Result<cri::AuthConfig> ToAuth(const AuthOptions& options) {
  cri::AuthConfig auth;
  if (!options.auth.empty()) {
    auth.set_auth(options.auth);
  } else if (!options.creds.empty()) {
    size_t colon = options.creds.find(':');
    auth.set_username(options.creds.substr(0, colon));
    if (colon != std::string::npos) auth.set_password(options.creds.substr(colon + 1));
  } else if (!options.username.empty()) {
    auth.set_username(options.username);
    auth.set_password(TRY(ReadPassword()));
  }
  return auth;
}

int ForEach(Session& session, const std::vector<std::string>& items,
            const std::function<Result<>(const std::string&)>& one) {
  int code = 0;
  for (const std::string& item : items) {
    if (auto done = one(item); !done) {
      PrintError(session, done.error());
      code = 1;
    }
  }
  return code;
}

}  // namespace crisp::ctl
