#include "stream/link.h"

#include <algorithm>

namespace crisp::stream {
namespace {

// How soon we see that a client has gone while we do not read from it.
constexpr std::chrono::seconds kPeerCheckEvery(2);

}  // namespace

void Link::Start() {
  tasks_.Spawn(ReadLoop());
  tasks_.Spawn(WriteLoop());
  tasks_.Spawn(WatchIdle());
}

void Link::Abort() {
  CloseTransport();
  Over();
}

void Link::Over() {
  if (over_) return;
  over_ = true;
  for (auto& [channel, inbox] : inboxes_) {
    inbox->reset = true;
    inbox->changed.Notify();
  }
  room_.Notify();
  changed_.Notify();
  watch_.Notify();
  NotifyChange();
}

void Link::NotifyChange() {
  if (on_change_) on_change_();
}

std::shared_ptr<Inbox> Link::OpenInbox(uint32_t channel) {
  std::shared_ptr<Inbox>& inbox = inboxes_[channel];
  if (!inbox) inbox = std::make_shared<Inbox>(io_);
  inbox->reset = inbox->reset || over_;
  return inbox;
}

void Link::Deliver(uint32_t channel, std::string_view bytes) {
  auto found = inboxes_.find(channel);
  if (found == inboxes_.end() || found->second->ended || discard_) return OnConsumed(channel, bytes.size());
  Inbox& inbox = *found->second;
  inbox.bytes += bytes;
  inbox.held += bytes.size();
  held_ += bytes.size();
  inbox.changed.Notify();
}

void Link::DeliverEnd(uint32_t channel) {
  auto found = inboxes_.find(channel);
  if (found == inboxes_.end()) return;
  found->second->ended = true;
  found->second->changed.Notify();
}

void Link::DeliverReset(uint32_t channel) {
  auto found = inboxes_.find(channel);
  if (found == inboxes_.end()) return;
  std::shared_ptr<Inbox> inbox = std::move(found->second);
  inboxes_.erase(found);
  held_ -= inbox->held;
  inbox->held = 0;
  inbox->reset = true;
  inbox->changed.Notify();
  room_.Notify();
  NotifyChange();
}

void Link::Consumed(uint32_t channel, size_t bytes) {
  OnConsumed(channel, bytes);
  auto found = inboxes_.find(channel);
  if (found == inboxes_.end()) return;  // taken away meanwhile
  Inbox& inbox = *found->second;
  bytes = std::min(bytes, inbox.held);
  inbox.held -= bytes;
  held_ -= bytes;
  room_.Notify();
}

void Link::CloseInbox(uint32_t channel) {
  auto found = inboxes_.find(channel);
  if (found == inboxes_.end()) return;
  size_t held = found->second->held;
  held_ -= held;
  inboxes_.erase(found);
  OnConsumed(channel, held);
  room_.Notify();
}

void Link::DiscardInput() {
  discard_ = true;
  for (auto& [channel, inbox] : inboxes_) {
    OnConsumed(channel, inbox->held);
    inbox->held = 0;
    inbox->bytes.clear();
    inbox->reset = true;
    inbox->changed.Notify();
  }
  inboxes_.clear();
  held_ = 0;
  room_.Notify();
}

bool Link::Congested() const {
  if (held_ < kInboxMax) return false;
  return held_ >= kHeldMax ||
         std::ranges::any_of(inboxes_, [](const auto& entry) { return entry.second->held >= kInboxMax; });
}

Task<> Link::WaitUntilUncongested() {
  while (!over_ && Congested()) {
    co_await room_.WaitFor(kPeerCheckEvery);
    if (!over_ && Congested() && PeerGone()) Abort();
  }
}

Task<> Link::WatchIdle() {
  while (!over_) {
    Clock::duration idle = Clock::now() - last_active_;
    if (idle >= idle_timeout_) {
      Abort();
      co_return;
    }
    co_await watch_.WaitFor(idle_timeout_ - idle);
  }
}

}  // namespace crisp::stream
