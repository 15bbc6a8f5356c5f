// Exec and attach over a link: the process's stdin, stdout and stderr, its terminal's size, its exit code.
#pragma once

#include "stream/link.h"
#include "stream/tokens.h"

namespace crisp::stream {

// Which channel of the link is which stream of the process; none: the client did not ask for it.
struct CommandChannels {
  std::optional<uint32_t> in, out, err, resize;
  uint32_t error = 0;
};

// Opens the session, pumps until it is over, says how it ended, and takes leave. A client that goes away ends the
// session. Errors are told to the client.
Task<> RunCommand(Services& services, std::shared_ptr<Link> link, Request request, CommandChannels channels,
                  int protocol_version);

}  // namespace crisp::stream
