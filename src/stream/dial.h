// Connections to a streaming server and their upgrades. Internal to the client half of stream/.
#pragma once

#include <memory>
#include <string>

#include "stream/client.h"
#include "stream/spdy_link.h"
#include "stream/transport.h"
#include "stream/websocket_link.h"

namespace crisp::stream {

struct Target {
  bool tls = false;
  std::string host, port, path;  // host without brackets; path with its query
};
// "http://127.0.0.1:1234/exec/token". kInvalidArgument: something else.
Result<Target> ParseTarget(std::string_view url);

Task<Result<std::shared_ptr<ClientStream>>> Connect(asio::io_context& io, Target target, DialOptions options);

struct SpdyUpgrade {
  std::unique_ptr<BytePipe> pipe;
  std::string version;  // what the server chose, "" when it does not say
};
// `versions`: X-Stream-Protocol-Version, best first, with commas.
Task<Result<SpdyUpgrade>> UpgradeToSpdy(std::shared_ptr<ClientStream> stream, Target target, std::string versions);

struct WebSocketUpgrade {
  std::unique_ptr<WebSocket> socket;
  std::string protocol;
};
Task<Result<WebSocketUpgrade>> UpgradeToWebSocket(std::shared_ptr<ClientStream> stream, Target target,
                                                  std::string protocols);

// Nobody but the user ends a client's connection.
inline constexpr std::chrono::hours kNeverIdle(24 * 365);

}  // namespace crisp::stream
