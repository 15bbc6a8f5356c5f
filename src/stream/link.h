// Link: one client's connection once it is upgraded: channels of bytes in both directions, be they SPDY streams or
// channels in WebSocket messages. Channels' numbers are the protocol's.
//
// Memory of a link is bounded: it stops reading from the client while what came in is not used up (kInboxMax of one
// channel, kHeldMax of all), and Send waits while kBacklogMax bytes are not written yet. Neither protocol's clients
// look at windows of their own, so a channel that nobody empties stops the others of its link in the end; TCP tells the
// client. Threading: the loop's thread. Links are held by shared_ptr; a link outlives the coroutines that work on it.
#pragma once

#include <map>
#include <string>

#include "stream/loop.h"

namespace crisp::stream {

class Inbox {
 public:
  explicit Inbox(asio::io_context& io) : changed(io) {}
  std::string bytes;   // not taken yet
  bool ended = false;  // no more comes; the client said so
  bool reset = false;  // no more comes; the client took the channel away, or the link is over
  Signal changed;
  size_t held = 0;  // bytes that came in and are not Consumed
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  static constexpr size_t kInboxMax = 256 << 10, kHeldMax = 1 << 20, kBacklogMax = 128 << 10, kReadBytes = 32 << 10;

  Link(asio::io_context& io, std::chrono::milliseconds idle_timeout)
      : io_(io), tasks_(io), room_(io), changed_(io), watch_(io), idle_timeout_(idle_timeout) {}
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Begins to read and write; call once. Until Join has returned the link's coroutines run.
  void Start();
  Task<> Join() { return tasks_.Join(); }

  // Queues all of `bytes`, waiting for room. False: the channel or the link is gone.
  virtual Task<bool> Send(uint32_t channel, std::string_view bytes) = 0;
  virtual void End(uint32_t channel) = 0;    // we send no more on it
  virtual void Reset(uint32_t channel) = 0;  // nobody sends any more on it
  // Says good-bye: all that was queued goes out, then the client has some seconds to close. What it still sends is
  // read and thrown away, so that it gets our last bytes and an end, never a reset.
  virtual Task<> Farewell() = 0;
  void Abort();  // the connection is closed at once

  // What comes in on `channel`, from now on; without an inbox it is thrown away.
  std::shared_ptr<Inbox> OpenInbox(uint32_t channel);
  void Consumed(uint32_t channel, size_t bytes);
  void CloseInbox(uint32_t channel);  // what it still holds is thrown away
  void DiscardInput();                // all further input is thrown away

  bool over() const { return over_; }
  // Called when the link is over or a channel was opened or closed; replaces the one before.
  void OnChange(std::function<void()> callback) { on_change_ = std::move(callback); }

 protected:
  virtual Task<> ReadLoop() = 0;
  virtual Task<> WriteLoop() = 0;
  virtual void CloseTransport() = 0;
  virtual bool PeerGone() = 0;
  virtual void OnConsumed(uint32_t /*channel*/, size_t /*bytes*/) {}

  void Deliver(uint32_t channel, std::string_view bytes);
  void DeliverEnd(uint32_t channel);
  void DeliverReset(uint32_t channel);
  Task<> WaitUntilUncongested();  // before the next read
  void Over();                    // from either loop's end
  void NotifyChange();
  void Active() { last_active_ = Clock::now(); }

  asio::io_context& io_;
  Tasks tasks_;
  Signal room_;     // input was consumed
  Signal changed_;  // output was written, or is there to be; the link is over
  bool over_ = false;

 private:
  Task<> WatchIdle();
  bool Congested() const;

  Signal watch_;
  const std::chrono::milliseconds idle_timeout_;
  std::map<uint32_t, std::shared_ptr<Inbox>> inboxes_;
  size_t held_ = 0;
  bool discard_ = false;
  Clock::time_point last_active_ = Clock::now();
  std::function<void()> on_change_;
};

inline constexpr std::chrono::seconds kFarewellTime(10);

}  // namespace crisp::stream
