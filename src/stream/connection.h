// One client from its HTTP request on: finds what its token stands for, upgrades, and serves it.
#pragma once

#include "stream/tokens.h"
#include "stream/transport.h"

namespace crisp::stream {

// Until the connection is closed.
Task<> ServeConnection(Services& services, Tokens& tokens, std::shared_ptr<ClientStream> stream);

}  // namespace crisp::stream
