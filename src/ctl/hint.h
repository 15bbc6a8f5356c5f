// What to do next about an error, told in one line behind it. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace crisp::ctl {

struct HintContext {
  std::string program = "crispctl";
  std::string command;               // what was called: "ps"
  std::string endpoint;              // whom it asked
  std::vector<std::string> sockets;  // of runtimes known to be on this machine
};

// Never empty: errors that nothing better is known about name the help or the runtime's log.
std::string HintFor(const Error& error, const HintContext& context);

}  // namespace crisp::ctl
