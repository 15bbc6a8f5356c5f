// Shims by fork (crisp-shim --fork-server): without an exec and the start of a program for each pod, however many
// descriptors crispd has, and with memory that they share.
//
// The server is started when the first shim is asked for, and again when its program was replaced or it has died. It
// ends with us: crispd's end of its socket closes.
// Threading: any thread; one fork at a time; a server that gives no answer holds them up for 2 s, once in 30 s.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/context.h"
#include "base/synchronized.h"
#include "sys/spawn.h"

namespace crisp::runtime {

class ShimForks {
 public:
  // An open file of the program, which starts by its descriptor's number.
  using Program = std::shared_ptr<const sys::UniqueFd>;

  ShimForks() = default;
  ShimForks(const ShimForks&) = delete;
  ShimForks& operator=(const ShimForks&) = delete;
  ~ShimForks();

  // `shim`: as for sys::Spawn, with the pod's id and run directory as its arguments, and descriptors 2 and 3; new
  // servers get the rest of it. kUnavailable: there is no fork to be had, and none was begun. Other errors: there may
  // be one that nobody knows of, which has the descriptors: it ends by itself after a minute, since nobody sets it up.
  Result<sys::Process> Fork(const Program& program, const sys::Command& shim);

 private:
  struct Server {
    Program program;
    sys::UniqueFd socket;
    std::optional<sys::Process> process;
    Clock::time_point rest_until;
  };
  static Result<> Start(Server& server, const Program& program, const sys::Command& shim);
  static void End(Server& server);

  Synchronized<Server> server_;
};

}  // namespace crisp::runtime
