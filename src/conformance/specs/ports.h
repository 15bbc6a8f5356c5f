// Ports of this machine for specs.
#pragma once

#include <string>
#include <thread>

#include "sys/fd.h"

namespace crisp::conformance {

// A port that is free just now.
int FreePort();

// Listens on all addresses and says `text` to each who connects. Ends when destroyed.
class Listener {
 public:
  explicit Listener(const std::string& text);
  ~Listener();
  int port() const { return port_; }

 private:
  sys::UniqueFd fd_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace crisp::conformance
