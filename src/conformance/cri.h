// A connection to a CRI runtime, ours or another's. Requests and replies are JSON documents (schema.h). No gRPC header
// comes from here, so that specs compile quickly.
// Threading: any thread; each call has a completion queue of its own.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"

namespace crisp::conformance {

class Cri {
 public:
  // "unix:///path", "/path" or "host:port". An empty image endpoint is the runtime's.
  Cri(const std::string& runtime_endpoint, const std::string& image_endpoint, std::chrono::milliseconds runtime_timeout,
      std::chrono::milliseconds image_timeout);
  ~Cri();

  // One call. `timeout` 0: the service's. `*took`: the call alone, without the work on documents.
  Result<Json> Call(const std::string& rpc, const Json& request, std::chrono::milliseconds timeout = {},
                    std::chrono::nanoseconds* took = nullptr);
  // The same without documents: what a proxy passes on. `path` as gRPC has it.
  Result<std::string> CallRaw(const std::string& path, const std::string& request, std::chrono::milliseconds timeout,
                              std::chrono::nanoseconds* took = nullptr);

  // A call whose replies come one by one. Ends the call when it is destroyed.
  class Stream {
   public:
    virtual ~Stream() = default;
    // The next reply. kOutOfRange: the runtime ended the call well; kDeadlineExceeded: nothing came in time; else its
    // error.
    virtual Result<Json> Next(std::chrono::milliseconds timeout) = 0;
    virtual Result<std::string> NextRaw(std::chrono::milliseconds timeout) = 0;
    virtual void Cancel() = 0;  // from any thread
  };
  Result<std::unique_ptr<Stream>> Open(const std::string& rpc, const Json& request);
  Result<std::unique_ptr<Stream>> OpenRaw(const std::string& path, const std::string& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace crisp::conformance
