// --enable-tracing: a command and its calls as spans of one trace, sent to an OpenTelemetry collector when it ends.
// Threading: any, calls may run side by side (exec in several containers).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/support/client_interceptor.h>

#include "base/result.h"
#include "base/synchronized.h"

namespace crisp::ctl {

// Whether a trace is among the `rate_per_million`; negative, a million or more: always. Pure. It is told from the id,
// as OpenTelemetry's TraceIdRatioBased sampler does: whoever samples by the same rate chooses the same traces.
// `trace_id`: 32 hexadecimal digits.
bool IsSampled(std::string_view trace_id, int64_t rate_per_million);

class Tracer {
 public:
  struct Options {
    std::string endpoint;  // the collector's, "host:port"
    int64_t rate_per_million = -1;
    std::string service;        // who sends it
    std::string name, command;  // the root span's; what was called
  };
  using Interceptors = std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>;

  // The root span begins.
  explicit Tracer(Options options);

  // For one channel, which must not outlive the tracer: its calls get spans, and tell the runtime by the metadata
  // `traceparent` (https://www.w3.org/TR/trace-context) which trace they belong to, or that it is not sampled.
  Interceptors MakeInterceptors();

  // Ends the root span and sends all that is sampled in one request, within kExportTimeout. `message`: the error that
  // the command ended with. Call it once, after all calls.
  Result<> Export(int exit_code, const std::string& message);

  static constexpr std::chrono::seconds kExportTimeout{5};

 private:
  class CallInterceptor;
  class CallInterceptorFactory;
  struct Call {
    std::string method;   // "/runtime.v1.RuntimeService/Version"
    std::string span_id;  // hexadecimal
    uint64_t start = 0, end = 0;
    int status = 0;
    std::string message;
  };
  struct Calls {
    std::vector<Call> kept;
    size_t dropped = 0;
  };

  // Unix time in nanoseconds that never goes back, whatever is done to the clock meanwhile.
  uint64_t Now() const;
  void Add(Call call);

  const Options options_;
  const std::string trace_id_, root_id_;  // hexadecimal
  const bool sampled_;
  const std::chrono::system_clock::time_point began_;
  const std::chrono::steady_clock::time_point began_steady_;
  Synchronized<Calls> calls_;
};

}  // namespace crisp::ctl
