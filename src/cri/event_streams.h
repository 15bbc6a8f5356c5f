// GetContainerEvents: one server stream per client, fed from pod/feed.h.
//
// A client that does not read keeps nothing waiting: its events queue up to a limit, then the stream ends with
// RESOURCE_EXHAUSTED and the client lists anew. Nothing from before the call is told. The call's headers are sent when
// the watch has begun, so whoever has them misses nothing that happens from then on.
//
// Threading: any thread. Verbs only queue; one thread of this object hands the first event to an idle stream, gRPC's
// threads the following ones. Lock order: streams, then a stream.
#pragma once

#include "cri/v1/api.grpc.pb.h"

#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <memory>
#include <set>
#include <thread>

#include "base/synchronized.h"
#include "pod/manager.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class EventStreams {
 public:
  struct Options {
    size_t events_max = 4096;  // that wait for one client; they hold snapshots that are shared by all
    size_t streams_max = 256;
  };
  EventStreams(pod::Manager& pods, Options options);
  // The server is shut down: no stream is left.
  ~EventStreams();

  using Reactor = grpc::ServerWriteReactor<v1::ContainerEventResponse>;
  Reactor* Open(grpc::CallbackServerContext* context);
  // Ends all streams with UNAVAILABLE, and each that is opened from now on.
  void Close();

 private:
  class Stream;
  struct Signal {
    std::condition_variable changed;
    Synchronized<bool> due{false};
  };
  void Pump(std::stop_token stop);
  void Forget(Stream* stream);

  pod::Manager& pods_;
  const Options options_;
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();  // outlives us in a wake-up that is on its way
  struct Streams {
    std::set<Stream*> all;  // each belongs to itself until its OnDone
    bool closed = false;
  };
  Synchronized<Streams> streams_;
  std::jthread pump_;
};

}  // namespace crisp::cri
