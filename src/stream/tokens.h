// Tokens: what an answered Exec, Attach or PortForward is good for. The URL carries a random name of it, good for one
// use within a minute, for one verb. Row S48. Threading: any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"
#include "stream/backend.h"

namespace crisp::stream {

enum class Verb { kExec, kAttach, kPortForward };
// As in the URL's path: "exec", "attach", "portforward".
std::string_view VerbName(Verb verb);

struct Request {
  Verb verb = Verb::kExec;
  std::string id;                // of the container; of the pod to forward ports to
  std::vector<std::string> cmd;  // exec
  StreamWants wants;             // exec, attach
  std::vector<uint16_t> ports;   // port-forward: for WebSocket clients, which cannot say them themselves
};

class Tokens {
 public:
  struct Options {
    std::chrono::milliseconds lifetime{60'000};
    size_t in_flight_max = 1000;
  };
  explicit Tokens(const Options& options) : options_(options) {}

  // kResourceExhausted: too many URLs were asked for and not used.
  Result<std::string> Issue(Request request, Clock::time_point now = Clock::now());
  // The request that `token` stands for, once; nothing if there is none, it has expired, or it is of another verb.
  std::optional<Request> Redeem(Verb verb, std::string_view token, Clock::time_point now = Clock::now());
  size_t in_flight() const { return pending_.Lock()->size(); }

 private:
  struct Pending {
    Request request;
    Clock::time_point expires;
  };
  using Map = std::map<std::string, Pending, std::less<>>;
  static void DropExpired(Map& pending, Clock::time_point now);

  const Options options_;
  Synchronized<Map> pending_;
};

}  // namespace crisp::stream
