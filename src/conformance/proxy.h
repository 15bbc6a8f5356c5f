// A CRI server that passes every call on to a runtime, and does to some of them what faults say. With no fault it is
// invisible. Threading: a thread of its own for each call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "conformance/cri.h"
#include "conformance/fault.h"

namespace crisp::conformance {

class Proxy {
 public:
  // Serves on `socket_path` until destroyed. `upstream` must outlive it.
  Proxy(Cri& upstream, std::vector<Fault> faults, const std::string& socket_path);
  ~Proxy();
  bool ok() const;
  // Whether a fault has changed anything yet.
  bool struck() const;

 private:
  class Service;
  struct Call;
  std::unique_ptr<Service> service_;
};

}  // namespace crisp::conformance
