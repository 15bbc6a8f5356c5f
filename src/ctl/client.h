// The connection to a CRI runtime, ours or another's. Connecting is lazy: the first call does it.
// Threading: one thread, crispctl's.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "base/result.h"
#include "cri/v1/api.grpc.pb.h"
#include "crisp/v1/crisp.grpc.pb.h"

namespace crisp::ctl {

namespace cri = ::runtime::v1;

inline constexpr const char* kDefaultEndpoint = "unix:///run/crisp/crisp.sock";

class Tracer;

// A gRPC status as our error; a runtime that is not there or does not know the call is said in plain words.
Error FromStatus(const grpc::Status& status, const std::string& endpoint);

class Client {
 public:
  // "unix:///path", "/path" or "host:port". `timeout` is for each call that says no other; 0: none.
  // `retries`: how often a connection that fails is tried again, 0.5, 1, 2, 4, 5, 5 … seconds apart; negative: for ever.
  // `tracer` (may be nullptr) makes a span of each call; it outlives the client.
  Client(std::string runtime_endpoint, std::string image_endpoint, std::chrono::nanoseconds timeout, int retries = 0,
         Tracer* tracer = nullptr);

  using Runtime = cri::RuntimeService::Stub;
  using Images = cri::ImageService::Stub;
  using Own = ::crisp::v1::Images::Stub;

  static constexpr std::chrono::nanoseconds kNoTimeout = std::chrono::nanoseconds::max();

  // One unary call: Call(&Client::Runtime::Version, request). `timeout` 0: the client's.
  template <class Stub, class Request, class Response>
  Result<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                        const std::type_identity_t<Request>& request, std::chrono::nanoseconds timeout = {}) {
    grpc::ClientContext context;
    SetDeadline(context, timeout);
    Response response;
    grpc::Status status = (Get(static_cast<Stub*>(nullptr)).*method)(&context, request, &response);
    if (!status.ok()) return FromStatus(status, EndpointOf(static_cast<Stub*>(nullptr)));
    return response;
  }

  Runtime& runtime() { return Get(static_cast<Runtime*>(nullptr)); }
  Images& images() { return Get(static_cast<Images*>(nullptr)); }
  Own& own() { return Get(static_cast<Own*>(nullptr)); }
  const std::string& runtime_endpoint() const { return runtime_endpoint_; }
  const std::string& image_endpoint() const { return image_endpoint_; }

 private:
  void SetDeadline(grpc::ClientContext& context, std::chrono::nanoseconds timeout) const;
  Runtime& Get(Runtime*) {
    Await(*channel_);
    return *runtime_;
  }
  Images& Get(Images*) {
    Await(*image_channel_);
    return *images_;
  }
  Own& Get(Own*) {
    Await(*image_channel_);
    return *own_;
  }
  // Gives a connection that is not there yet the time of `retries_`.
  void Await(grpc::Channel& channel) const;
  const std::string& EndpointOf(Runtime*) const { return runtime_endpoint_; }
  const std::string& EndpointOf(Images*) const { return image_endpoint_; }
  const std::string& EndpointOf(Own*) const { return image_endpoint_; }

  std::string runtime_endpoint_, image_endpoint_;
  std::chrono::nanoseconds timeout_;
  int retries_;
  std::shared_ptr<grpc::Channel> channel_, image_channel_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Images> images_;
  std::unique_ptr<Own> own_;
};

}  // namespace crisp::ctl
