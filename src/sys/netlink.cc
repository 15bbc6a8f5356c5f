#include "sys/netlink.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/strings.h"

namespace crisp::sys {

namespace {

constexpr size_t kReceiveBytes = 64 << 10;  // the kernel builds dumps in pieces of at most 32 KiB

size_t Align(size_t length) { return (length + 3) & ~size_t{3}; }

}  // namespace

NetlinkBatch& NetlinkBatch::BeginBytes(uint16_t type, int flags, std::string_view header, std::string what,
                                       std::initializer_list<int> tolerated) {
  message_ = bytes_.size();
  nlmsghdr message{};
  message.nlmsg_type = type;
  message.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST | (what.empty() ? 0 : NLM_F_ACK));
  bytes_.append(reinterpret_cast<const char*>(&message), sizeof message);
  entries_.push_back({std::move(what), tolerated});
  return Raw(header);
}

NetlinkBatch& NetlinkBatch::Raw(std::string_view bytes) {
  bytes_.append(bytes);
  bytes_.resize(Align(bytes_.size()), '\0');
  GrowMessage();
  return *this;
}

NetlinkBatch& NetlinkBatch::Put(int type, std::string_view bytes) {
  nlattr attribute{static_cast<uint16_t>(sizeof(nlattr) + bytes.size()), static_cast<uint16_t>(type)};
  bytes_.append(reinterpret_cast<const char*>(&attribute), sizeof attribute);
  return Raw(bytes);
}

NetlinkBatch& NetlinkBatch::PutString(int type, std::string_view text) {
  std::string with_nul(text);
  with_nul.push_back('\0');
  return Put(type, with_nul);
}

size_t NetlinkBatch::OpenNest(int type) {
  size_t start = bytes_.size();
  Put(type | NLA_F_NESTED, {});
  return start;
}

void NetlinkBatch::CloseNest(size_t start) {
  auto length = static_cast<uint16_t>(bytes_.size() - start);
  std::memcpy(bytes_.data() + start, &length, sizeof length);
}

void NetlinkBatch::GrowMessage() {
  auto length = static_cast<uint32_t>(bytes_.size() - message_);
  std::memcpy(bytes_.data() + message_, &length, sizeof length);
}

NetlinkAttributes::NetlinkAttributes(std::string_view bytes) {
  while (bytes.size() >= sizeof(nlattr)) {
    nlattr attribute;
    std::memcpy(&attribute, bytes.data(), sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > bytes.size()) return;
    attributes_.emplace_back(attribute.nla_type & NLA_TYPE_MASK,
                             bytes.substr(sizeof attribute, attribute.nla_len - sizeof attribute));
    bytes.remove_prefix(std::min(bytes.size(), Align(attribute.nla_len)));
  }
}

std::string_view NetlinkAttributes::Get(int type) const {
  for (auto found = attributes_.rbegin(); found != attributes_.rend(); ++found) {
    if (found->first == type) return found->second;
  }
  return {};
}

std::string NetlinkAttributes::String(int type) const {
  std::string_view bytes = Get(type);
  return std::string(bytes.substr(0, std::min(bytes.size(), bytes.find('\0'))));
}

Result<NetlinkSocket> NetlinkSocket::Open(int protocol) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd.ok()) return Errno(errno, StrCat("open netlink socket of protocol ", protocol));
  int on = 1;
  // Both are hints: texts in errors, and filters of dumps done by the kernel. Old kernels refuse them harmlessly.
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  // Answers are queued while sendmsg runs; a lost one would make us wait for ever without this bound.
  timeval patience{10, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  // Every answer of a batch is queued before we read the first; the default holds about 270.
  int bytes = 4 << 20;
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  return NetlinkSocket(std::move(fd));
}

// Numbers the messages from sequence_ on, so that answers can be told apart.
Result<> NetlinkSocket::SendBytes(std::string bytes, size_t count) {
  uint32_t number = sequence_;
  for (size_t at = 0; at + sizeof(nlmsghdr) <= bytes.size();) {
    nlmsghdr header;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    header.nlmsg_seq = number++;
    std::memcpy(bytes.data() + at, &header, sizeof header);
    at += Align(header.nlmsg_len);
  }
  CHECK(number - sequence_ == count);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  while (sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) < 0) {
    if (errno != EINTR) return Errno(errno, "send netlink request");
  }
  return {};
}

Result<std::string_view> NetlinkSocket::Receive() {
  buffer_.resize(kReceiveBytes);
  while (true) {
    sockaddr_nl from{};
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(fd_.get(), buffer_.data(), buffer_.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Error(Code::kDeadlineExceeded, "the kernel did not answer a netlink request");
    if (got < 0) return Errno(errno, "receive netlink answer");
    if (static_cast<size_t>(got) > buffer_.size()) {
      return Error(Code::kResourceExhausted, StrCat("netlink answer of ", got, " bytes"));
    }
    if (from.nl_pid != 0) continue;  // another process may send to us; only the kernel counts
    return std::string_view(buffer_).substr(0, static_cast<size_t>(got));
  }
}

namespace {

struct Answer {
  nlmsghdr header;
  std::string_view payload;
};

std::vector<Answer> Split(std::string_view bytes) {
  std::vector<Answer> answers;
  while (bytes.size() >= sizeof(nlmsghdr)) {
    Answer answer;
    std::memcpy(&answer.header, bytes.data(), sizeof answer.header);
    if (answer.header.nlmsg_len < sizeof(nlmsghdr) || answer.header.nlmsg_len > bytes.size()) break;
    answer.payload = bytes.substr(sizeof(nlmsghdr), answer.header.nlmsg_len - sizeof(nlmsghdr));
    answers.push_back(answer);
    bytes.remove_prefix(std::min(bytes.size(), Align(answer.header.nlmsg_len)));
  }
  return answers;
}

int ErrnoOf(std::string_view payload) {
  int negative = -EIO;
  if (payload.size() >= sizeof negative) std::memcpy(&negative, payload.data(), sizeof negative);
  return -negative;
}

// The kernel's own words about a refusal (NLMSGERR_ATTR_MSG), or "".
std::string KernelText(const Answer& answer) {
  if ((answer.header.nlmsg_flags & NLM_F_ACK_TLVS) == 0 || answer.payload.size() < sizeof(nlmsgerr)) return "";
  nlmsgerr error;
  std::memcpy(&error, answer.payload.data(), sizeof error);
  size_t skip = sizeof(nlmsgerr);
  if ((answer.header.nlmsg_flags & NLM_F_CAPPED) == 0 && error.msg.nlmsg_len >= sizeof(nlmsghdr)) {
    skip += Align(error.msg.nlmsg_len - sizeof(nlmsghdr));
  }
  if (skip >= answer.payload.size()) return "";
  return NetlinkAttributes(answer.payload.substr(skip)).String(NLMSGERR_ATTR_MSG);
}

Error Refusal(const Answer& answer, const std::string& what) {
  std::string text = KernelText(answer);
  return Errno(ErrnoOf(answer.payload), text.empty() ? what : StrCat(what, " (", text, ")"));
}

}  // namespace

Result<> NetlinkSocket::Send(const NetlinkBatch& batch, const OnMessage& on_message) {
  const auto& entries = batch.entries();
  size_t waiting = 0;
  for (const NetlinkBatch::Entry& entry : entries) waiting += !entry.what.empty();
  const uint32_t first = sequence_;
  TRY(SendBytes(batch.bytes(), entries.size()));
  sequence_ += static_cast<uint32_t>(entries.size());
  Result<> result;
  while (waiting > 0) {
    for (const Answer& answer : Split(TRY(Receive()))) {
      const uint32_t index = answer.header.nlmsg_seq - first;
      if (index >= entries.size()) continue;  // of an earlier request that was given up
      const NetlinkBatch::Entry& entry = entries[index];
      if (answer.header.nlmsg_type != NLMSG_ERROR) {
        if (on_message) on_message(answer.header.nlmsg_type, answer.payload);
        continue;
      }
      int err = ErrnoOf(answer.payload);
      // A refused batch-begin of nfnetlink: no other answer follows.
      if (entry.what.empty()) return Refusal(answer, "netlink batch");
      --waiting;
      if (err != 0 && std::ranges::find(entry.tolerated, err) == entry.tolerated.end() && result) {
        result = Refusal(answer, entry.what);
      }
    }
  }
  return result;
}

Result<> NetlinkSocket::Dump(const NetlinkBatch& request, const OnMessage& on_message) {
  CHECK(request.entries().size() == 1);
  const std::string& what = request.entries()[0].what;
  std::vector<std::pair<uint16_t, std::string>> messages;  // handed on once the dump is known to be whole
  for (int attempt = 0; attempt < 3; ++attempt) {
    messages.clear();
    bool interrupted = false;
    const uint32_t number = sequence_;
    TRY(SendBytes(request.bytes(), 1), what);
    ++sequence_;
    for (bool done = false; !done;) {
      for (const Answer& answer : Split(TRY(Receive(), what))) {
        if (answer.header.nlmsg_seq != number) continue;
        if ((answer.header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
        if (answer.header.nlmsg_type == NLMSG_DONE) {
          int err = ErrnoOf(answer.payload);
          if (err != 0 && answer.payload.size() >= sizeof(int)) return Refusal(answer, what);
          done = true;
        } else if (answer.header.nlmsg_type == NLMSG_ERROR) {
          return Refusal(answer, what);
        } else {
          messages.emplace_back(answer.header.nlmsg_type, std::string(answer.payload));
        }
      }
    }
    if (interrupted) continue;
    for (const auto& [type, payload] : messages) on_message(type, payload);
    return {};
  }
  return Error(Code::kAborted, StrCat(what, ": the table kept changing"));
}

}  // namespace crisp::sys
