#include "stream/forward.h"

#include <sys/socket.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <vector>

#include "base/strings.h"
#include "stream/backend.h"

namespace crisp::stream {
namespace {

using Descriptor = asio::posix::stream_descriptor;
constexpr std::chrono::seconds kDialBound(30);
constexpr std::chrono::seconds kHalfClosedTime(10);
constexpr size_t kPairsMax = 100;  // of one connection, at once

struct PairChannels {
  uint32_t data = 0, error = 0;
};

// One forwarded connection. Its end or reset touches no other.
class Forwarded {
 public:
  Forwarded(Services& services, std::shared_ptr<Link> link, PairChannels channels)
      : services_(services), link_(std::move(link)), channels_(channels), socket_(services.io), tasks_(services.io) {}

  Task<> Run(std::string pod, uint16_t port) {
    inbox_ = link_->OpenInbox(channels_.data);
    std::function<Result<sys::UniqueFd>()> dial = [&backend = services_.backend, ctx = services_.ctx, pod, port]() {
      return backend.DialPod(ctx.WithTimeout(kDialBound), pod, port);
    };
    Result<sys::UniqueFd> fd = co_await OnPool<sys::UniqueFd>(services_.io, services_.dials, std::move(dial));
    error_code error;
    if (fd) socket_.assign(fd->get(), error);
    if (fd && !error) {
      (void)fd->Release();
      tasks_.Spawn(Pump(ToPod()));
      tasks_.Spawn(Pump(FromPod()));
      tasks_.Spawn(WatchClient());
      co_await tasks_.Join();
    } else if (!link_->over()) {
      std::string text = fd ? error.message() : fd.error().message();
      (void)co_await link_->Send(channels_.error, StrCat("forward port ", port, " of pod ", pod, ": ", text));
    }
    link_->End(channels_.data);
    link_->End(channels_.error);
    link_->CloseInbox(channels_.data);
    link_->CloseInbox(channels_.error);
  }

 private:
  Task<> Pump(Task<> direction) {
    co_await std::move(direction);
    --pumps_;
    inbox_->changed.Notify();
  }

  // A pod that neither reads nor writes must not keep us when the client has gone: the pumps wait for its socket only.
  Task<> WatchClient() {
    while (!inbox_->reset && pumps_ > 0) co_await inbox_->changed.Wait();
    if (pumps_ > 0) ResetPod();
  }

  void ResetPod() {
    linger now{.l_onoff = 1, .l_linger = 0};  // the client's reset becomes one of the pod's connection
    (void)setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    error_code ignored;
    socket_.close(ignored);
  }

  Task<> ToPod() {
    while (true) {
      while (inbox_->bytes.empty() && !inbox_->ended && !inbox_->reset) {
        if (!from_pod_over_) {
          co_await inbox_->changed.Wait();
          continue;
        }
        // The pod has nothing more to say. Most mean by it that they hear nothing more either, and not every protocol's
        // client can tell us that it is done.
        co_await inbox_->changed.WaitFor(kHalfClosedTime);
        if (inbox_->bytes.empty()) co_return;
      }
      if (inbox_->reset) break;
      if (inbox_->bytes.empty()) {
        (void)shutdown(socket_.native_handle(), SHUT_WR);
        // The rest is the pod's to say; but the client may still take the channel away.
        while (!inbox_->reset && !from_pod_over_) co_await inbox_->changed.Wait();
        break;
      }
      std::string bytes = std::exchange(inbox_->bytes, {});
      auto [error, written] = co_await asio::async_write(socket_, asio::buffer(bytes), kAwait);
      link_->Consumed(channels_.data, bytes.size());
      if (error) {
        // Nobody reads it there any more; what the pod has still to say may follow. Throw away what comes.
        while (!inbox_->reset && !from_pod_over_) {
          link_->Consumed(channels_.data, std::exchange(inbox_->bytes, {}).size());
          co_await inbox_->changed.Wait();
        }
        break;
      }
    }
    if (inbox_->reset && !from_pod_over_) ResetPod();
  }

  Task<> FromPod() {
    std::vector<char> buffer(Link::kReadBytes);
    bool reset = false;
    while (true) {
      auto [error, got] = co_await socket_.async_read_some(asio::buffer(buffer), kAwait);
      if (error) {
        reset = error != asio::error::eof && error != asio::error::operation_aborted;
        break;
      }
      if (!co_await link_->Send(channels_.data, std::string_view(buffer.data(), got))) break;
    }
    from_pod_over_ = true;
    // No text about it: clients take any text for the end of everything that they forward.
    if (reset) {
      link_->Reset(channels_.data);
    } else {
      link_->End(channels_.data);
    }
    inbox_->changed.Notify();
  }

  Services& services_;
  const std::shared_ptr<Link> link_;
  const PairChannels channels_;
  std::shared_ptr<Inbox> inbox_;
  Descriptor socket_;
  Tasks tasks_;
  bool from_pod_over_ = false;
  int pumps_ = 2;  // that run
};

Task<> ForwardOne(Services& services, std::shared_ptr<Link> link, PairChannels channels, std::string pod,
                  uint16_t port) {
  Forwarded forwarded(services, std::move(link), channels);
  co_await forwarded.Run(std::move(pod), port);
}

// Streams of a SPDY client that wait for their partner.
class Pairing {
 public:
  Pairing(Services& services, std::shared_ptr<SpdyLink> link, Request request)
      : services_(services),
        link_(std::move(link)),
        request_(std::move(request)),
        changed_(services.io),
        tasks_(services.io) {}

  Task<> Run() {
    link_->OnChange([this] { changed_.Notify(); });
    while (!link_->over()) {
      while (std::optional<SpdyLink::Arrival> arrival = link_->NextArrival()) Take(*arrival);
      DropStale();
      if (half_.empty()) {
        co_await changed_.Wait();
      } else {
        co_await changed_.WaitFor(services_.creation_timeout);
      }
    }
    link_->OnChange(nullptr);
    co_await tasks_.Join();
  }

 private:
  struct Half {
    std::optional<uint32_t> data, error;
    uint16_t port = 0;
    Clock::time_point since = Clock::now();
  };

  void Take(const SpdyLink::Arrival& arrival) {
    std::string_view type = codec::FindSpdyHeader(arrival.headers, "streamtype");
    std::optional<uint16_t> port = ParseInt<uint16_t>(codec::FindSpdyHeader(arrival.headers, "port"));
    bool is_data = type == "data";
    if (!port || *port == 0 || (!is_data && type != "error")) return link_->Reset(arrival.stream);
    std::string id(codec::FindSpdyHeader(arrival.headers, "requestid"));
    // Old clients send none; they open the error stream first and its data stream next.
    if (id.empty()) id = StrCat(is_data ? arrival.stream - 2 : arrival.stream);
    auto found = half_.find(id);
    if (found == half_.end()) {
      if (half_.size() + static_cast<size_t>(tasks_.running()) >= kPairsMax) return link_->Reset(arrival.stream);
      found = half_.emplace(id, Half()).first;
    }
    Half& half = found->second;
    std::optional<uint32_t>& place = is_data ? half.data : half.error;
    if (place) return link_->Reset(arrival.stream);
    place = arrival.stream;
    half.port = *port;
    link_->Accept(arrival.stream);
    if (!half.data || !half.error) return;
    tasks_.Spawn(ForwardOne(services_, link_, {*half.data, *half.error}, request_.id, half.port));
    half_.erase(found);
  }

  void DropStale() {
    std::erase_if(half_, [&](const auto& entry) {
      if (Clock::now() - entry.second.since < services_.creation_timeout) return false;
      for (const auto& stream : {entry.second.data, entry.second.error}) {
        if (stream) link_->Reset(*stream);
      }
      return true;
    });
  }

  Services& services_;
  const std::shared_ptr<SpdyLink> link_;
  const Request request_;
  std::map<std::string, Half> half_;  // by request id
  Signal changed_;
  Tasks tasks_;
};

}  // namespace

Task<> ForwardSpdy(Services& services, std::shared_ptr<SpdyLink> link, Request request) {
  Pairing pairing(services, std::move(link), std::move(request));
  co_await pairing.Run();
}

Task<> ForwardWebSocket(Services& services, std::shared_ptr<WebSocketLink> link, Request request,
                        std::vector<uint16_t> ports) {
  Tasks tasks(services.io);
  for (size_t i = 0; i < ports.size(); ++i) {
    PairChannels channels{static_cast<uint32_t>(2 * i), static_cast<uint32_t>(2 * i + 1)};
    for (uint32_t channel : {channels.data, channels.error}) {
      link->SendMessage(codec::MakePortMessage(link->protocol(), static_cast<uint8_t>(channel), ports[i]));
    }
    tasks.Spawn(ForwardOne(services, link, channels, request.id, ports[i]));
  }
  co_await tasks.Join();
  co_await link->Farewell();
}

}  // namespace crisp::stream
