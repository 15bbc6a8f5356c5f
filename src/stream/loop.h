// The server's event loop: Asio's coroutines on one thread. Everything below belongs to that thread; what blocks goes
// to a pool by OnPool. Internal to stream/: no header that others include includes it.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <memory>
#include <optional>

#include "base/context.h"
#include "base/log.h"
#include "base/pool.h"

namespace crisp::stream {

namespace asio = boost::asio;
using boost::system::error_code;
template <class T = void>
using Task = asio::awaitable<T>;
// Errors come as values; our coroutines do not throw.
inline constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Wakes coroutines that wait for a change. Always in a loop over a condition: a wake-up says nothing by itself.
class Signal {
 public:
  explicit Signal(asio::io_context& io) : timer_(std::make_shared<asio::steady_timer>(io, Clock::time_point::max())) {}
  void Notify() { timer_->cancel(); }
  Task<> Wait() { co_await timer_->async_wait(kAwait); }
  // Also returns after `bound`.
  Task<> WaitFor(Clock::duration bound) {
    asio::steady_timer bell(timer_->get_executor(), bound);
    bell.async_wait([timer = timer_](error_code cancelled) {
      if (!cancelled) timer->cancel();
    });
    co_await timer_->async_wait(kAwait);
  }

 private:
  std::shared_ptr<asio::steady_timer> timer_;  // never expires; a bell may outlive us
};

// Coroutines that their owner waits for. Join before the owner goes.
class Tasks {
 public:
  explicit Tasks(asio::io_context& io) : io_(io), ended_(io) {}
  void Spawn(Task<> task) {
    ++running_;
    asio::co_spawn(io_, std::move(task), [this](std::exception_ptr thrown) {
      if (thrown) LogError("a streaming task threw");  // std::bad_alloc
      --running_;
      ended_.Notify();
    });
  }
  Task<> Join() {
    while (running_ > 0) co_await ended_.Wait();
  }
  int running() const { return running_; }

 private:
  asio::io_context& io_;
  Signal ended_;
  int running_ = 0;
};

// Runs `work` on a thread of `pool` and comes back to the loop with its result.
template <class T>
Task<Result<T>> OnPool(asio::io_context& io, Pool& pool, std::function<Result<T>()> work) {
  struct State {
    explicit State(asio::io_context& loop) : done(loop) {}
    std::optional<Result<T>> result;
    Signal done;
  };
  auto state = std::make_shared<State>(io);
  // The loop must not run out of work, and so end, while the pool is at it.
  auto guard = std::make_shared<asio::executor_work_guard<asio::io_context::executor_type>>(io.get_executor());
  bool taken = pool.Submit([&io, state, guard, work = std::move(work)]() mutable {
    Result<T> result = work();
    work = nullptr;
    asio::post(io, [state = std::move(state), guard = std::move(guard), result = std::move(result)]() mutable {
      state->result.emplace(std::move(result));
      state->done.Notify();
    });
  });
  if (!taken) co_return Error(Code::kResourceExhausted, "too many streaming requests at once");
  while (!state->result) co_await state->done.Wait();
  co_return std::move(*state->result);
}

// What the parts of the server share. Outlives them all.
struct Services {
  asio::io_context& io;
  Pool& pool;
  Pool& dials;  // connections into pods, which a pod can let hang: execs do not wait behind them
  class Backend& backend;
  Ctx ctx;  // cancelled when the server stops
  std::chrono::milliseconds idle_timeout, creation_timeout;
};

}  // namespace crisp::stream
