#include "ctl/hint.h"

#include <algorithm>

#include "base/strings.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

constexpr Code kAny = static_cast<Code>(0);

// The first row that fits wins. `words`: one of them, parted by '|', is in the message; in lower case. In `advice`,
// {P} is the program, {C} the command, {E} the endpoint, {S} other sockets that are there.
struct Row {
  Code code;
  const char* words;
  const char* advice;
};

constexpr Row kRows[] = {
    // The connection.
    {Code::kUnavailable, "no such file",
     "start the runtime (systemctl start crispd), or name another socket by -r or CONTAINER_RUNTIME_ENDPOINT{S}"},
    {Code::kUnavailable, "permission denied", "the socket is root's: call sudo {P} {C}"},
    {Code::kUnavailable, "connection refused",
     "the socket is there and nobody listens: look at systemctl status crispd and journalctl -u crispd, or name "
     "another "
     "by -r{S}"},
    {Code::kUnavailable, "no runtime answers|dns resolution|not a socket|socket closed|http",
     "is {E} a CRI socket? -r names another one, like unix:///run/crisp/crisp.sock{S}"},
    {Code::kUnimplemented, "unknown service runtime.v1|unknown service runtime.v1.",
     "{E} is no CRI v1 socket: -r names another one{S}"},
    {Code::kUnimplemented, "checkpoint",
     "crispd has it with checkpoint.enable and CRIU; {P} version says which runtime this is"},
    {Code::kUnimplemented, "", "{P} version says which runtime this is; crispd has the call"},
    {Code::kDeadlineExceeded, "pull|image",
     "give it more time by --pull-timeout, or see what hangs: journalctl -u crispd"},
    {Code::kDeadlineExceeded, "", "give it more time by -t, like -t 30s, or ask {P} doctor what is wrong"},
    // Registries: runtimes have codes and words of their own for the same.
    {kAny,
     "unauthorized|unauthenticated|authentication required|401|access denied|denied: requested|failed to authorize",
     "log in: --creds USER:PASSWORD, or --username USER to be asked for the password; is the image's name right?"},
    {Code::kUnauthenticated, "", "log in: --creds USER:PASSWORD, or --username USER to be asked for the password"},
    {kAny, "toomanyrequests|429", "the registry limits pulls: log in by --creds USER:PASSWORD, or try again later"},
    {kAny, "http response to https client|wrong version number|ssl_error|certificate",
     "the registry's TLS is not as expected: its hosts.toml says ca, skip_verify or http"},
    {kAny, "no such host|could not resolve|name resolution",
     "does this node find the registry? getent hosts HOST tells"},
    {kAny, "manifest unknown|manifest_unknown|name_unknown|name unknown",
     "is the tag right? The registry has no such image"},
    // Objects and their state.
    {kAny, "is in use|in use by|is used by|being used",
     "{P} ps -a --image IMAGE shows who uses it: {P} rm -f CONTAINER, then try again; {P} rmi --prune takes unused "
     "ones"},
    {Code::kFailedPrecondition, "is running", "stop it first, or use -f"},
    {Code::kInvalidArgument, "say more of the id",
     "give more of the id; {P} ps -a and {P} pods show them, --no-trunc whole"},
    {Code::kNotFound, "no container|container with id|container \"|no running container", "{P} ps -a lists containers"},
    {Code::kNotFound, "no pod|sandbox", "{P} pods lists pods"},
    {Code::kNotFound, "image", "{P} images lists images; {P} pull IMAGE fetches one"},
    {Code::kNotFound, "open ", "is the file's path right?"},
    {Code::kAlreadyExists, "", "name another one, or remove what is there"},
    {Code::kPermissionDenied, "", "call it as root: sudo {P} {C}"},
    {Code::kResourceExhausted, "no space", "{P} df shows what takes the room; {P} rmi --prune removes unused images"},
    {Code::kResourceExhausted, "larger than max", "ask for less: filters of {P} {C} are in {P} help {C}"},
    {Code::kFailedPrecondition, "terminal", "leave -t away, or call it from a terminal"},
    {Code::kInvalidArgument, "", "{P} help {C} shows how it is used"},
    {Code::kUnavailable, "", "{P} doctor asks what is wrong"},
};
constexpr const char* kElse = "the runtime's log says more: journalctl -u crispd";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWordPart(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z'); }

// A number counts as a word of its own only: ids in messages have all kinds of numbers inside.
bool Has(std::string_view text, std::string_view word) {
  const bool is_number = std::ranges::all_of(word, IsDigit) && !word.empty();
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if (!is_number) return true;
    if ((at == 0 || !IsWordPart(text[at - 1])) && (end == text.size() || !IsWordPart(text[end]))) return true;
  }
  return false;
}

bool HasOneOf(std::string_view text, std::string_view words) {
  return std::ranges::any_of(Split(words, '|'), [&](std::string_view word) { return Has(text, word); });
}

std::string OtherSockets(const HintContext& context) {
  std::vector<std::string> others;
  for (const std::string& socket : context.sockets) {
    if (socket != context.endpoint) others.push_back(socket);
  }
  return others.empty() ? "" : StrCat("; there is ", Join(others, ", "));
}

std::string Fill(std::string_view advice, const HintContext& context) {
  std::string text;
  for (size_t i = 0; i < advice.size(); ++i) {
    if (advice[i] != '{' || i + 2 >= advice.size() || advice[i + 2] != '}') {
      text += advice[i];
      continue;
    }
    char what = advice[i + 1];
    text += what == 'P'   ? context.program
            : what == 'C' ? context.command
            : what == 'E' ? context.endpoint
                          : OtherSockets(context);
    i += 2;
  }
  return std::string(Trim(text));
}

}  // namespace

std::string HintFor(const Error& error, const HintContext& context) {
  std::string message = Lower(error.message());
  for (const Row& row : kRows) {
    if (row.code != kAny && row.code != error.code()) continue;
    if (HasOneOf(message, row.words)) return Fill(row.advice, context);
  }
  return kElse;
}

}  // namespace crisp::ctl
