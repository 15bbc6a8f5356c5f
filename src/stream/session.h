// What Backend gives (see backend.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "sys/fd.h"

namespace crisp::stream {

// Which streams a client wants.
struct StreamWants {
  bool tty = false, in = false, out = false, err = false;
};

// Non-blocking and close-on-exec. One that was not asked for is not ok().
struct StreamFds {
  sys::UniqueFd in, out, err;
};

inline constexpr std::chrono::milliseconds kStreamDrainTime{100};

class StreamSession {
 public:
  virtual ~StreamSession() = default;
  virtual StreamFds TakeFds() = 0;
  virtual Result<> Resize(uint16_t width, uint16_t height) = 0;
  virtual void OnExit(std::function<void(Result<int>)> callback) = 0;
};

}  // namespace crisp::stream
