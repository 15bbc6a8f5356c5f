// Streams: where the clients of Exec, Attach and PortForward are sent. The server that serves these URLs is another
// front (stream/), so the daemon puts itself in between. Threading: any thread; nothing blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pod/streams.h"

namespace crisp::cri {

class Streams {
 public:
  virtual ~Streams() = default;
  // URLs good for one use within a minute. kResourceExhausted: too many are not used yet.
  virtual Result<std::string> ExecUrl(const std::string& container, const std::vector<std::string>& cmd,
                                      const pod::StreamWants& wants) = 0;
  virtual Result<std::string> AttachUrl(const std::string& container, const pod::StreamWants& wants) = 0;
  virtual Result<std::string> PortForwardUrl(const std::string& pod, const std::vector<uint16_t>& ports) = 0;
};

}  // namespace crisp::cri
