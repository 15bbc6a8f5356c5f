#include "cri/event_streams.h"

#include <pthread.h>

#include "base/log.h"
#include "base/strings.h"
#include "cri/to_cri.h"

namespace crisp::cri {

// Belongs to itself: OnDone, gRPC's last word, deletes it. At most one write is under way.
class EventStreams::Stream final : public Reactor {
 public:
  explicit Stream(EventStreams& owner) : owner_(owner) {}

  void Begin(std::shared_ptr<pod::Watcher> watcher) {
    auto state = state_.Lock();
    state->watcher = std::move(watcher);
    StartSendInitialMetadata();
  }
  void Refuse(const grpc::Status& status) {
    auto state = state_.Lock();
    End(*state, status);
  }

  // Writes the next event, if there is one and no other is being written.
  void Next() {
    auto state = state_.Lock();
    if (state->writing || state->ended || state->watcher == nullptr) return;
    if (state->closing) return End(*state, {grpc::StatusCode::UNAVAILABLE, "crispd is stopping"});
    pod::Watcher::Taken taken = state->watcher->Take();
    if (taken.overflowed) {
      LogWarning("a client does not read its container events, its stream ends", {{"events", state->written}});
      return End(*state, {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many events were not read: list anew"});
    }
    if (taken.event == nullptr) return;
    state->message = EventToCri(*taken.event);
    state->writing = true;
    ++state->written;
    StartWrite(&state->message);
  }

  // What is being written is still written.
  void Close() {
    state_.Lock()->closing = true;
    Next();
  }

 private:
  void OnSendInitialMetadataDone(bool ok) override {
    if (ok) Next();
  }
  void OnWriteDone(bool ok) override {
    {
      auto state = state_.Lock();
      state->writing = false;
      if (!ok) return End(*state, {grpc::StatusCode::UNAVAILABLE, "the client is gone"});
    }
    Next();
  }
  void OnCancel() override {
    auto state = state_.Lock();
    End(*state, {grpc::StatusCode::CANCELLED, "the client has ended the call"});
  }
  void OnDone() override {
    owner_.Forget(this);
    delete this;
  }

  struct State {
    std::shared_ptr<pod::Watcher> watcher;  // null before Begin and after the end
    v1::ContainerEventResponse message;     // being written
    uint64_t written = 0;
    bool writing = false, closing = false, ended = false;
  };
  void End(State& state, const grpc::Status& status) {
    if (std::exchange(state.ended, true)) return;
    state.watcher = nullptr;
    Finish(status);
  }

  EventStreams& owner_;
  Synchronized<State> state_;
};

EventStreams::EventStreams(pod::Manager& pods, Options options)
    : pods_(pods), options_(options), pump_([this](std::stop_token stop) { Pump(stop); }) {}

EventStreams::~EventStreams() {
  pump_.request_stop();
  {
    auto between_its_look_and_its_wait = signal_->due.Lock();
  }
  signal_->changed.notify_all();
}

EventStreams::Reactor* EventStreams::Open(grpc::CallbackServerContext*) {
  auto* stream = new Stream(*this);
  auto streams = streams_.Lock();
  streams->all.insert(stream);
  if (streams->closed) {
    stream->Refuse({grpc::StatusCode::UNAVAILABLE, "crispd is stopping"});
  } else if (streams->all.size() > options_.streams_max) {
    stream->Refuse(
        {grpc::StatusCode::RESOURCE_EXHAUSTED, StrCat("more than ", options_.streams_max, " event streams")});
  } else {
    stream->Begin(pods_.Watch(options_.events_max, [signal = signal_] {
      *signal->due.Lock() = true;
      signal->changed.notify_one();
    }));
  }
  return stream;
}

void EventStreams::Close() {
  auto streams = streams_.Lock();
  streams->closed = true;
  for (Stream* stream : streams->all) stream->Close();
}

void EventStreams::Forget(Stream* stream) { streams_.Lock()->all.erase(stream); }

void EventStreams::Pump(std::stop_token stop) {
  pthread_setname_np(pthread_self(), "cri-events");
  while (true) {
    {
      auto due = signal_->due.Lock();
      due.Wait(signal_->changed, [&] { return *due || stop.stop_requested(); });
      if (stop.stop_requested()) return;
      *due = false;
    }
    auto streams = streams_.Lock();
    for (Stream* stream : streams->all) stream->Next();
  }
}

}  // namespace crisp::cri
