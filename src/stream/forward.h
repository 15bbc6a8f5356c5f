// Port-forward over a link: each forwarded connection is a pair of channels, data and error.
#pragma once

#include "stream/link.h"
#include "stream/spdy_link.h"
#include "stream/tokens.h"
#include "stream/websocket_link.h"

namespace crisp::stream {

// Serves pairs as the client opens them until the link is over.
Task<> ForwardSpdy(Services& services, std::shared_ptr<SpdyLink> link, Request request);
// Connects to each of `ports` at once and serves them until all are closed.
Task<> ForwardWebSocket(Services& services, std::shared_ptr<WebSocketLink> link, Request request,
                        std::vector<uint16_t> ports);

}  // namespace crisp::stream
