// ListStream: the reply of a Stream* call: a list in batches, each item once, then the end. What a unary List* call
// would answer is decided once, at the beginning; a batch is built when the client has taken the one before, so that a
// slow client holds no more than one batch and the references to our snapshots. Threading: gRPC's, and the pool of the
// method's work; one step follows the other.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "cri/call.h"

namespace crisp::cri {

// A client that takes longer for the whole list is let go: as long as a kubelet waits for a list.
inline constexpr std::chrono::minutes kStreamBound(2);
// Of one message: far below what clients take (4 MiB by gRPC's default), far above what a message costs.
inline constexpr int kBatchItemsMax = 1'000;
inline constexpr size_t kBatchBytesMax = 1u << 20;

// Cancels a call when its time is up, unless it has ended before. The alarm may go off while the call is being deleted:
// what they share is neither's.
class StreamBound {
 public:
  StreamBound(grpc::CallbackServerContext* context, std::chrono::milliseconds bound);
  ~StreamBound();

 private:
  struct Shared {
    // Recursive: TryCancel may end the call, and with it this, before it returns.
    std::recursive_mutex mutex;
    grpc::CallbackServerContext* context;  // null: ended
  };
  std::shared_ptr<Shared> shared_;
  grpc::Alarm alarm_;
};

// `Item` is what is listed, cheap to hold; `Response` has it converted.
template <class Item, class Response>
class ListStream final : public grpc::ServerWriteReactor<Response>, public Call {
 public:
  struct Source {
    // What the unary call would answer about.
    std::function<Result<std::vector<Item>>(const Ctx&)> list;
    // Appends one to a message and returns about how many bytes it takes.
    std::function<size_t(const Ctx&, const Item&, Response&)> add;
    // May be empty. Before `add` is called for some of these.
    std::function<void(const Ctx&, std::span<const Item>)> prepare;
    // Instead of the two: makes a message of the first of these, about `bytes_max` large; returns how many it took.
    std::function<Result<size_t>(const Ctx&, std::span<const Item>, size_t bytes_max, Response&)> take = {};
  };

  ListStream(Front& front, const Method& method, grpc::CallbackServerContext* context, Source source,
             std::chrono::milliseconds bound = kStreamBound)
      : Call(front, method, {}, context->deadline()), source_(std::move(source)), bound_(context, bound) {
    Step();
  }

 private:
  void Step() {
    if (!Post([this](const Ctx& ctx) { Go(ctx); })) {
      End(Error(Code::kUnavailable, "crispd is stopping, or has too much to do"));
    }
  }
  void Go(const Ctx& ctx) {
    Result<bool> more = Fill(ctx);
    if (!more) return End(std::move(more).error());
    if (!*more) return End({});
    this->StartWrite(&batch_);
  }
  // False: there is nothing more.
  Result<bool> Fill(const Ctx& ctx) {
    TRY(ctx.Check());
    if (!listed_) {
      items_ = TRY(source_.list(ctx));
      listed_ = true;
    }
    if (next_ == items_.size()) return false;
    batch_.Clear();
    std::span<const Item> rest = std::span<const Item>(items_).subspan(next_);
    size_t taken = TRY(Take(ctx, rest.first(std::min(rest.size(), static_cast<size_t>(kBatchItemsMax)))));
    for (size_t end = next_ + taken; next_ < end; ++next_) items_[next_] = Item();  // it is not ours to keep any longer
    return true;
  }
  Result<size_t> Take(const Ctx& ctx, std::span<const Item> items) {
    if (source_.take) return source_.take(ctx, items, kBatchBytesMax, batch_);
    if (source_.prepare) source_.prepare(ctx, items);
    size_t taken = 0;
    for (size_t bytes = 0; taken < items.size() && bytes < kBatchBytesMax; ++taken) {
      TRY(ctx.Check());
      bytes += source_.add(ctx, items[taken], batch_);
    }
    return taken;
  }

  void OnWriteDone(bool ok) override {
    if (ok) return Step();
    End(Error(Code::kCancelled, "the caller went away"));
  }
  void Send(const grpc::Status& status) override { this->Finish(status); }
  void OnCancel() override { Cancel(); }
  void OnDone() override { delete this; }

  const Source source_;
  std::vector<Item> items_;
  size_t next_ = 0;
  bool listed_ = false;
  Response batch_;
  StreamBound bound_;
};

}  // namespace crisp::cri
