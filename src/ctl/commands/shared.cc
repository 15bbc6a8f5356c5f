#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/commands/commands.h"

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

void PrintError(const Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "crispctl: %s\n", Printable(error.message()).c_str());
}

Result<OutputFormat> OutputOption::Get() const {
  if (text == "json") return OutputFormat::kJson;
  if (text == "yaml") return OutputFormat::kYaml;
  if (text == "table" || text.empty()) return OutputFormat::kTable;
  return Error(Code::kInvalidArgument, StrCat("unknown output format ", Quote(text), " (json, yaml, table)"));
}

void AddOutput(CLI::App& command, OutputOption& output, const char* fallback) {
  output.text = fallback;
  command.add_option("-o,--output", output.text, StrCat("json, yaml or table (", fallback, ")"));
}

Result<> PrintMessage(const google::protobuf::Message& message, OutputFormat format) {
  Print(RenderDocument(TRY(MessageToJson(message)), format));
  return {};
}

Result<> PrintStatuses(std::vector<Json> statuses, OutputFormat format) {
  if (statuses.empty()) return {};
  Json document = statuses.size() == 1 ? std::move(statuses[0]) : Json(std::move(statuses));
  Print(RenderDocument(document, format));
  return {};
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

int ForEach(const std::vector<std::string>& items, const std::function<Result<>(const std::string&)>& one) {
  int code = 0;
  for (const std::string& item : items) {
    if (auto done = one(item); !done) {
      PrintError(done.error());
      code = 1;
    }
  }
  return code;
}

}  // namespace crisp::ctl
