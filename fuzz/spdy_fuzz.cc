// What a SPDY client may send. However it is cut into pieces, the same streams, bytes and answers come of it, and
// neither memory nor the answers outgrow their limits.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "codec/spdy.h"

namespace {

class Server : public crisp::codec::SpdySession::Events {
 public:
  void OnStream(uint32_t stream, const crisp::codec::SpdyHeaders& headers) override {
    seen += "o" + std::to_string(stream);
    for (const auto& [name, value] : headers) seen += name + value;
    session.Reply(stream);
    if (session.Send(stream, "answer") > 6) std::abort();
  }
  void OnData(uint32_t stream, std::string_view bytes) override {
    data += std::string(bytes) + std::to_string(stream).back();
    total += bytes.size();
    session.Consumed(stream, bytes.size());
  }
  void OnEnd(uint32_t stream) override {
    seen += "e" + std::to_string(stream);
    session.End(stream);
  }
  void OnReset(uint32_t stream) override { seen += "r" + std::to_string(stream); }
  void OnGoAway() override { seen += "g"; }

  crisp::codec::SpdySession session{crisp::codec::SpdySession::Role::kServer, *this, {}};
  std::string seen, data;
  size_t total = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(bytes), size);
  Server whole, cut;
  bool whole_ok = whole.session.Receive(input).has_value();
  bool cut_ok = cut.session.Receive(input.substr(0, size / 2)).has_value();
  if (cut_ok) cut_ok = cut.session.Receive(input.substr(size / 2)).has_value();
  if (whole_ok != cut_ok || whole.seen != cut.seen || whole.total != cut.total) std::abort();
  if (whole.total > size || whole.session.output_bytes() > size * 16 + 4096) std::abort();
  return 0;
}
