// Netlink: requests to the kernel as batches of messages, and their answers (linux/netlink.h).
//
// One batch is one sendmsg(2): the kernel works through its messages in order and answers each. A socket belongs to the
// network namespace of the thread that opened it, for ever, so a socket opened by a thread inside a pod's namespace
// may be used by any thread afterwards: nothing here changes a thread's namespace.
// Threading: a socket is for one thread at a time. Blocking: only as long as the kernel works on the request.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"

namespace crisp::sys {

// Messages to be sent together. Build: Begin, Put…, Begin, Put…; nests by lambda.
class NetlinkBatch {
 public:
  struct Entry {
    std::string what;            // for errors: "create link veth12"; "" for a message that gets no answer
    std::vector<int> tolerated;  // errnos that count as success
  };

  // `header` is the fixed structure behind nlmsghdr. NLM_F_REQUEST is added, and NLM_F_ACK unless `what` is empty.
  template <class Header>
  NetlinkBatch& Begin(uint16_t type, int flags, const Header& header, std::string what,
                      std::initializer_list<int> tolerated = {}) {
    return BeginBytes(type, flags, {reinterpret_cast<const char*>(&header), sizeof header}, std::move(what), tolerated);
  }
  NetlinkBatch& Put(int type, std::string_view bytes);
  NetlinkBatch& PutString(int type, std::string_view text);  // with its NUL
  template <class T>
  NetlinkBatch& PutValue(int type, T value) {
    return Put(type, {reinterpret_cast<const char*>(&value), sizeof value});
  }
  template <class Fill>
  NetlinkBatch& Nest(int type, Fill fill) {
    size_t start = OpenNest(type);
    fill();
    CloseNest(start);
    return *this;
  }
  // Raw bytes without an attribute header (a structure inside a nest, such as a veth peer's ifinfomsg).
  NetlinkBatch& Raw(std::string_view bytes);

  bool empty() const { return entries_.empty(); }
  const std::string& bytes() const { return bytes_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  NetlinkBatch& BeginBytes(uint16_t type, int flags, std::string_view header, std::string what,
                           std::initializer_list<int> tolerated);
  size_t OpenNest(int type);
  void CloseNest(size_t start);
  void GrowMessage();

  std::string bytes_;
  size_t message_ = 0;  // where the message being built begins
  std::vector<Entry> entries_;
};

// The attributes of a message, by type; the last one of a type wins. Bounds are checked.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::string_view bytes);
  std::string_view Get(int type) const;  // empty when absent
  bool Has(int type) const { return Get(type).data() != nullptr; }
  std::string String(int type) const;    // without the NUL
  template <class T>
  T Value(int type, T fallback = T()) const {
    std::string_view bytes = Get(type);
    if (bytes.size() < sizeof(T)) return fallback;
    T value;
    __builtin_memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

 private:
  std::vector<std::pair<int, std::string_view>> attributes_;
};

class NetlinkSocket {
 public:
  // In the calling thread's network namespace. `protocol`: NETLINK_ROUTE, NETLINK_NETFILTER.
  static Result<NetlinkSocket> Open(int protocol);

  // Sends the batch and waits for all answers. The first refusal (not tolerated) is the result; messages after it were
  // tried all the same, except in an nfnetlink batch, which is a transaction. `on_message` gets the messages that are
  // no acknowledgements (answers to a GET).
  using OnMessage = std::function<void(uint16_t type, std::string_view payload)>;
  Result<> Send(const NetlinkBatch& batch, const OnMessage& on_message = nullptr);
  // One request with NLM_F_DUMP. kAborted when the kernel's table changed under the dump three times in a row.
  Result<> Dump(const NetlinkBatch& request, const OnMessage& on_message);

  BorrowedFd fd() const { return fd_.borrow(); }

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<> SendBytes(std::string bytes, size_t count);
  Result<std::string_view> Receive();

  UniqueFd fd_;
  uint32_t sequence_ = 1;
  std::string buffer_;
};

}  // namespace crisp::sys
