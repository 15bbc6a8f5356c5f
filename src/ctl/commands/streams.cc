// exec, attach, port-forward: connections to processes and ports of containers.
#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/terminal.h"
#include "stream/client.h"

namespace crisp::ctl {

namespace {

using std::chrono::nanoseconds;

constexpr const char* kDetachKeys = "\x10\x11";  // ctrl-p ctrl-q

struct TransportOptions {
  std::string transport = "spdy";
  stream::DialOptions dial;
  Result<stream::DialOptions> Get() const {
    stream::DialOptions out = dial;
    if (transport == "websocket") {
      out.transport = stream::Transport::kWebSocket;
    } else if (transport != "spdy") {
      return Error(Code::kInvalidArgument, StrCat("unknown transport ", Quote(transport), " (spdy, websocket)"));
    }
    return out;
  }
};

struct ExecOptions {
  bool sync = false, tty = false, interactive = false, ignore_errors = false, parallel = false, quiet = false;
  std::string timeout;
  ListFilter filter;
  bool filtered = false;
  std::vector<std::string> words;  // [CONTAINER] COMMAND [ARGUMENT…]
  TransportOptions transport;
};

Result<int> ExecSync(Session& session, const ExecOptions& options, const std::string& id) {
  cri::ExecSyncRequest request;
  request.set_container_id(id);
  request.mutable_cmd()->Assign(options.words.begin(), options.words.end());
  nanoseconds limit{};
  if (!options.timeout.empty()) limit = TRY(ParseDuration(options.timeout));
  request.set_timeout(std::chrono::ceil<std::chrono::seconds>(limit).count());
  nanoseconds timeout = limit == nanoseconds::zero() ? Client::kNoTimeout : limit + std::chrono::seconds(15);
  auto answer = TRY(session.client->Call(&Client::Runtime::ExecSync, request, timeout));
  static std::mutex one_at_a_time;  // outputs of several containers do not mix
  std::lock_guard lock(one_at_a_time);
  Print(answer.stdout());
  std::fflush(stdout);
  std::fwrite(answer.stderr().data(), 1, answer.stderr().size(), stderr);
  return answer.exit_code();
}

// Connects this process's stdin, stdout and stderr to what `url` serves.
Result<int> Converse(const std::string& url, const stream::DialOptions& dial, bool interactive, bool tty) {
  std::fflush(stdout);
  stream::CommandIo io{
      .in = interactive ? STDIN_FILENO : -1, .out = STDOUT_FILENO, .err = tty ? -1 : STDERR_FILENO, .tty = tty};
  std::optional<RawTerminal> raw;
  if (tty) {
    if (!interactive) return Error(Code::kInvalidArgument, "-t wants -i too: a terminal without input is none");
    auto made = TRY(RawTerminal::Make(STDIN_FILENO));
    raw.emplace(std::move(made));
    io.detach_keys = kDetachKeys;
    io.size = [] { return SizeOfTerminal(STDIN_FILENO); };
  }
  auto end = stream::RunStreams(url, dial, io);
  raw.reset();
  if (!end) return std::move(end).error();
  if (end->detached) std::fputs("\ndetached\n", stderr);
  return end->exit_code;
}

Result<int> ExecStreams(Session& session, const ExecOptions& options, const std::string& id) {
  auto dial = TRY(options.transport.Get());
  cri::ExecRequest request;
  request.set_container_id(id);
  request.mutable_cmd()->Assign(options.words.begin(), options.words.end());
  request.set_tty(options.tty);
  request.set_stdin(options.interactive);
  request.set_stdout(true);
  request.set_stderr(!options.tty);
  std::string url = TRY(session.client->Call(&Client::Runtime::Exec, request)).url();
  return Converse(url, dial, options.interactive, options.tty);
}

Result<int> ExecOne(Session& session, const ExecOptions& options, const std::string& id) {
  return options.sync ? ExecSync(session, options, id) : ExecStreams(session, options, id);
}

// In each of `ids`; the last code that is not 0.
int ExecAll(Session& session, const ExecOptions& options, const std::vector<std::string>& ids) {
  std::vector<int> codes(ids.size(), 0);
  auto one = [&](size_t i) {
    if (!options.quiet && !options.parallel) Print(ids[i] + ":\n");
    auto code = ExecOne(session, options, ids[i]);
    if (!code) PrintError(session, std::move(code.error()).Context(StrCat("container ", ShortId(ids[i]))));
    codes[i] = code ? *code : 1;
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (options.parallel) {
      threads.emplace_back(one, i);
    } else {
      one(i);
    }
  }
  for (std::thread& thread : threads) thread.join();
  int worst = 0;
  for (int code : codes) worst = code != 0 ? code : worst;
  return worst;
}

Result<int> ExecCommand(Session& session, ExecOptions options) {
  std::vector<std::string>& words = options.words;
  std::string container;
  if (!options.filtered && !words.empty()) {
    container = words.front();
    words.erase(words.begin());
  }
  if (!words.empty() && words.front() == "--") words.erase(words.begin());
  if (words.empty()) {
    return Error(Code::kInvalidArgument,
                 "exec: name a container (or choose by --name, --pod, --label …) and a command");
  }
  if (!options.filtered) {
    std::string id = TRY(FindContainer(*session.client, container));
    auto code = ExecOne(session, options, id);
    if (options.ignore_errors) return 0;
    return code;
  }
  std::vector<std::string> ids;
  auto containers = TRY(ListContainers(*session.client, options.filter));
  for (const auto& found : containers) ids.push_back(found.id());
  if (ids.empty()) return Error(Code::kNotFound, "exec: no container fits (crispctl ps shows what runs)");
  int code = ExecAll(session, options, ids);
  return options.ignore_errors ? 0 : code;
}

struct AttachOptions {
  std::string container;
  bool interactive = false, tty = false;
  TransportOptions transport;
};

Result<int> AttachCommand(Session& session, const AttachOptions& options) {
  auto dial = TRY(options.transport.Get());
  cri::AttachRequest request;
  request.set_container_id(TRY(FindContainer(*session.client, options.container)));
  request.set_tty(options.tty);
  request.set_stdin(options.interactive);
  request.set_stdout(true);
  request.set_stderr(!options.tty);
  std::string url = TRY(session.client->Call(&Client::Runtime::Attach, request)).url();
  return Converse(url, dial, options.interactive, options.tty);
}

struct ForwardOptions {
  std::string pod;
  std::vector<std::string> ports;
  TransportOptions transport;
};

Result<int> ForwardCommand(Session& session, const ForwardOptions& options) {
  auto dial = TRY(options.transport.Get());
  std::vector<stream::ForwardedPort> ports;
  cri::PortForwardRequest request;
  for (const std::string& text : options.ports) {
    ports.push_back(TRY(stream::ParseForwardedPort(text)));
    request.add_port(ports.back().remote);
  }
  request.set_pod_sandbox_id(TRY(FindPod(*session.client, options.pod)));
  std::string url = TRY(session.client->Call(&Client::Runtime::PortForward, request)).url();
  TRY(stream::ForwardPorts(url, dial, ports, [](std::string_view line) {
    Print(Printable(std::string(line)) + "\n");
    std::fflush(stdout);
  }));
  return 0;
}

void AddTransport(CLI::App& command, TransportOptions& options) {
  command.add_option("-r,--transport", options.transport, "spdy or websocket (spdy)");
  command.add_option("--tls-ca", options.dial.ca,
                     "CA of an https streaming server (none: any certificate is believed)");
  command.add_option("--tls-cert", options.dial.cert, "our certificate");
  command.add_option("--tls-key", options.dial.key, "its key");
  command.add_option("--tls-sni,--tls-server-name", options.dial.server_name, "the server's name (localhost)");
}

void AddExec(CLI::App& app, Session& session) {
  auto* exec = app.add_subcommand("exec", "run a command in containers: exec [-it] CONTAINER COMMAND [ARGUMENT…]");
  auto options = std::make_shared<ExecOptions>();
  exec->add_flag("-i,--interactive", options->interactive, "give it our stdin");
  exec->add_flag("-t,--tty", options->tty, "in a terminal (ctrl-p ctrl-q ends the session)");
  exec->add_flag("-s,--sync", options->sync, "wait for the command, then show its output");
  exec->add_option("--timeout", options->timeout, "with -s: kill the command after this long");
  exec->add_flag("-e,--ignore-errors", options->ignore_errors, "exit code 0 whatever happens");
  exec->add_flag("-x,--parallel", options->parallel, "in all chosen containers at once");
  exec->add_flag("-q,--quiet", options->quiet, "do not print the ids of the chosen containers");
  ListFilter& filter = options->filter;
  std::vector<CLI::Option*> choices = {
      exec->add_option("--name", filter.name, "in all running containers whose name fits this regular expression"),
      exec->add_option("--image", filter.image, "… of this image"),
      exec->add_option("-p,--pod", filter.pod, "… of this pod"),
      exec->add_option("--state", filter.state, "… in this state"),
      exec->add_option("--label", filter.labels, "… with this label, key=value, repeated")->allow_extra_args(false),
      exec->add_flag("-l,--latest", filter.latest, "in the newest container"),
      exec->add_option("-n,--last", filter.last, "in the newest N containers")};
  AddTransport(*exec, options->transport);
  exec->prefix_command();  // whatever follows the container's name belongs to the command, dashes or not
  exec->callback([=, &session] {
    options->words = exec->remaining();
    for (const CLI::Option* choice : choices) options->filtered = options->filtered || choice->count() > 0;
    session.action = [=, &session] { return ExecCommand(session, *options); };
  });
}

}  // namespace

void AddStreamCommands(CLI::App& app, Session& session) {
  AddExec(app, session);
  auto* attach = app.add_subcommand("attach", "connect to a running container's process");
  auto options = std::make_shared<AttachOptions>();
  attach->add_option("CONTAINER", options->container)->required();
  attach->add_flag("-i,--stdin", options->interactive, "give it our stdin");
  attach->add_flag("-t,--tty", options->tty, "it has a terminal (ctrl-p ctrl-q ends the session)");
  AddTransport(*attach, options->transport);
  attach->callback([=, &session] { session.action = [=, &session] { return AttachCommand(session, *options); }; });

  auto* forward = app.add_subcommand("port-forward", "make ports of a pod ports of this machine's loopback");
  auto forward_options = std::make_shared<ForwardOptions>();
  forward->add_option("POD", forward_options->pod)->required();
  forward->add_option("PORT", forward_options->ports, "[LOCAL:]REMOTE; :REMOTE takes any local port")->required();
  AddTransport(*forward, forward_options->transport);
  forward->callback(
      [=, &session] { session.action = [=, &session] { return ForwardCommand(session, *forward_options); }; });
}

}  // namespace crisp::ctl
