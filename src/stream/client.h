// The other end of the streaming server, for crispctl: dials the URLs that Exec, Attach and PortForward answer, of any
// CRI runtime. SPDY/3.1 and WebSocket, as kubectl and crictl speak them (k8s.io/client-go remotecommand, portforward).
// Threading: a call runs its own loop on the caller's thread and returns at the end; standard input is read by a thread
// of its own, so that a terminal shared with a shell is never made non-blocking. No state stays.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "stream/status.h"

namespace crisp::stream {

enum class Transport { kSpdy, kWebSocket };

struct DialOptions {
  Transport transport = Transport::kSpdy;
  // For https. Without `ca` any certificate is believed, as crictl does; `cert` and `key` only together.
  std::string ca, cert, key, server_name = "localhost";
};

struct CommandIo {
  int in = -1, out = -1, err = -1;  // borrowed; -1: the stream was not asked for
  bool tty = false;
  std::string detach_keys;                               // bytes of `in` that end the session; "": none
  std::function<std::optional<TerminalSize>()> size;     // asked at the start and at each SIGWINCH
};

struct CommandEnd {
  int exit_code = 0;
  bool detached = false;
};

// Until the command ends, its streams end (attach), or the detach keys come. kUnavailable: cannot be reached or went
// away; kFailedPrecondition: refused. What the runtime says went wrong is the error's text.
Result<CommandEnd> RunStreams(const std::string& url, const DialOptions& options, const CommandIo& io);

struct ForwardedPort {
  uint16_t local = 0, remote = 0;  // local 0: any
};
// "8080:80", "80", ":80" (any local port).
Result<ForwardedPort> ParseForwardedPort(std::string_view text);

// Listens on 127.0.0.1 and ::1 and forwards connections until SIGINT or SIGTERM (no error) or the runtime ends it.
// `say` gets lines for the user.
Result<> ForwardPorts(const std::string& url, const DialOptions& options, const std::vector<ForwardedPort>& ports,
                      const std::function<void(std::string_view)>& say);

}  // namespace crisp::stream
