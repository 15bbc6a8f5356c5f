#include "codec/spdy.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include <random>

namespace crisp::codec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Writes down what happens, one line each.
class Diary : public SpdySession::Events {
 public:
  void OnStream(uint32_t stream, const SpdyHeaders& headers) override {
    std::string line = "open " + std::to_string(stream);
    for (const auto& [name, value] : headers) line += " " + name + "=" + value;
    lines.push_back(line);
  }
  void OnReply(uint32_t stream, const SpdyHeaders&) override { lines.push_back("reply " + std::to_string(stream)); }
  void OnData(uint32_t stream, std::string_view bytes) override { data[stream] += bytes; }
  void OnEnd(uint32_t stream) override { lines.push_back("end " + std::to_string(stream)); }
  void OnReset(uint32_t stream) override { lines.push_back("reset " + std::to_string(stream)); }
  void OnGoAway() override { lines.push_back("goaway"); }

  std::vector<std::string> lines;
  std::map<uint32_t, std::string> data;
};

struct Peers {
  Diary client_diary, server_diary;
  SpdySession client{SpdySession::Role::kClient, client_diary, {}};
  SpdySession server{SpdySession::Role::kServer, server_diary, {}};
  // Everything that lies ready, until nothing does.
  void Exchange(size_t piece = 1 << 20) {
    while (client.output_bytes() + server.output_bytes() > 0) {
      for (auto [from, to] : {std::pair(&client, &server), std::pair(&server, &client)}) {
        std::string bytes = from->TakeOutput();
        for (size_t at = 0; at < bytes.size(); at += piece) {
          ASSERT_TRUE(to->Receive(std::string_view(bytes).substr(at, piece)));
        }
      }
    }
  }
};

std::string Frame(uint16_t type, uint8_t flags, std::string_view payload) {
  std::string out = {'\x80', '\x03', static_cast<char>(type >> 8), static_cast<char>(type)};
  out += {static_cast<char>(flags), static_cast<char>(payload.size() >> 16), static_cast<char>(payload.size() >> 8),
          static_cast<char>(payload.size())};
  return out + std::string(payload);
}

std::string Number(uint32_t n) {
  return {static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)};
}

// A SYN_STREAM whose header block inflates to `plain`. A connection's first one, as the dictionary is set anew.
std::string SynStreamOf(uint32_t stream, const std::string& plain) {
  // The dictionary is taken from a real block: zlib's header asks for it by its checksum.
  SpdyFrameWriter writer;
  std::string real;
  writer.SynStream(real, 1, {}, 0);
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(plain.size() / 500 + plain.size() % 500 + 200, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_SYNC_FLUSH), Z_OK);
  EXPECT_EQ(z.avail_in, 0u);
  out.erase(out.size() - z.avail_out);
  deflateEnd(&z);
  return Frame(1, 0, Number(stream) + Number(0) + std::string(2, '\0') + out);
}

TEST(Spdy, StreamsCarryHeadersAndDataBothWays) {
  for (size_t piece : {size_t{1}, size_t{3}, size_t{1} << 20}) {
    Peers peers;
    uint32_t a = peers.client.Open({{"streamtype", "stdin"}, {"port", "80"}});
    uint32_t b = peers.client.Open({{"streamtype", "stdout"}});
    EXPECT_EQ(peers.client.Send(a, "hello"), 5u);
    peers.client.End(a);
    peers.Exchange(piece);
    peers.server.Reply(a);
    peers.server.Reply(b);
    EXPECT_EQ(peers.server.Send(b, "world"), 5u);
    peers.server.End(b);
    peers.server.End(a);
    peers.client.End(b);
    peers.Exchange(piece);
    EXPECT_THAT(peers.server_diary.lines,
                ElementsAre("open 1 streamtype=stdin port=80", "open 3 streamtype=stdout", "end 1", "end 3"));
    EXPECT_THAT(peers.client_diary.lines, ElementsAre("reply 1", "reply 3", "end 3", "end 1"));
    EXPECT_EQ(peers.server_diary.data[a], "hello");
    EXPECT_EQ(peers.client_diary.data[b], "world");
    EXPECT_EQ(peers.server.streams(), 0u);
    EXPECT_EQ(peers.client.streams(), 0u);
  }
}

// The header block that begins every connection, from spdystream's writer: {streamtype: error} at best compression.
TEST(Spdy, DictionaryIsTheProtocols) {
  SpdyFrameWriter writer;
  std::string out;
  writer.SynReply(out, 1, {}, 0);
  // zlib: CMF, FLG, then the dictionary's Adler-32, which the draft states.
  EXPECT_EQ(out.substr(14, 4), std::string("\xe3\xc6\xa7\xc2", 4));
}

TEST(Spdy, ResetTouchesOneStreamOnly) {
  Peers peers;
  uint32_t a = peers.client.Open({}), b = peers.client.Open({});
  peers.Exchange();
  peers.server.Reset(a, SpdyStatus::kCancel);
  EXPECT_EQ(peers.server.Send(a, "x"), 0u);
  EXPECT_EQ(peers.server.Send(b, "y"), 1u);
  peers.Exchange();
  EXPECT_THAT(peers.client_diary.lines, ElementsAre("reset 1"));
  EXPECT_EQ(peers.client_diary.data[b], "y");
}

TEST(Spdy, DataAfterAResetIsSilentlyDropped) {
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  peers.server.Reset(a, SpdyStatus::kCancel);
  (void)peers.server.TakeOutput();  // the client does not know yet
  EXPECT_EQ(peers.client.Send(a, "late"), 4u);
  ASSERT_TRUE(peers.server.Receive(peers.client.TakeOutput()));
  EXPECT_THAT(peers.server_diary.data, IsEmpty());
  EXPECT_EQ(peers.server.output_bytes(), 0u);
}

TEST(Spdy, WindowsBindOnlyForPeersThatKnowThem) {
  std::string big(200'000, 'x');
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  EXPECT_EQ(peers.server.Send(a, big), big.size());  // a peer like spdystream
  peers.Exchange();

  std::string update;
  SpdyFrameWriter::WindowUpdate(update, a, 200'000);
  ASSERT_TRUE(peers.server.Receive(update));
  EXPECT_EQ(peers.server.Send(a, big), 65536u);  // what is left of the first window and the update
  EXPECT_EQ(peers.server.Send(a, big), 0u);
  std::string more;
  SpdyFrameWriter::WindowUpdate(more, a, 10);
  ASSERT_TRUE(peers.server.Receive(more));
  EXPECT_EQ(peers.server.Send(a, big), 10u);
}

TEST(Spdy, WindowsAreIgnoredByWhoDoesNotReadThem) {
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  std::string update;
  SpdyFrameWriter::WindowUpdate(update, 0, 1);
  SpdyFrameWriter::WindowUpdate(update, a, 1);
  ASSERT_TRUE(peers.server.Receive(update));
  const std::string big(100'000, 'x');
  EXPECT_EQ(peers.server.Send(a, big), 65537u);
  EXPECT_EQ(peers.server.Send(a, big), 0u);
  EXPECT_EQ(peers.server.Send(a, big, SpdySession::Windows::kIgnore), big.size());
  std::string more;
  SpdyFrameWriter::WindowUpdate(more, 0, 100'000 + 7);
  SpdyFrameWriter::WindowUpdate(more, a, 100'000 + 7);
  ASSERT_TRUE(peers.server.Receive(more));
  EXPECT_EQ(peers.server.Send(a, big), 7u) << "they count on";
}

TEST(Spdy, InitialWindowOfSettingsCountsForOpenStreams) {
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  std::string settings;
  SpdyFrameWriter::Settings(settings, {{kSpdyInitialWindowSetting, 5}});
  ASSERT_TRUE(peers.server.Receive(settings));
  EXPECT_EQ(peers.server.Send(a, "1234567"), 5u);
}

TEST(Spdy, ConsumedBytesComeBackAsWindow) {
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  peers.server.Consumed(a, 32 << 10);
  std::string out = peers.server.TakeOutput(), wanted;
  SpdyFrameWriter::WindowUpdate(wanted, 0, 32 << 10);
  SpdyFrameWriter::WindowUpdate(wanted, a, 32 << 10);
  EXPECT_EQ(out, wanted);
}

TEST(Spdy, PingsOfThePeerAreAnsweredAndOursAreNot) {
  Peers peers;
  std::string theirs, ours;
  SpdyFrameWriter::Ping(theirs, 7);
  SpdyFrameWriter::Ping(ours, 8);
  ASSERT_TRUE(peers.server.Receive(theirs + ours));
  EXPECT_EQ(peers.server.TakeOutput(), theirs);
}

TEST(Spdy, UnknownFramesAreSkipped) {
  Peers peers;
  ASSERT_TRUE(peers.server.Receive(Frame(77, 0, std::string(100'000, 'x'))));
  peers.client.Open({});
  peers.Exchange();
  EXPECT_THAT(peers.server_diary.lines, ElementsAre("open 1"));
}

TEST(Spdy, S46CountsThatLie) {
  for (std::string payload :
       {Number(0xffffffff), Number(0xffffffff) + std::string(8, 'x'), Number(2) + std::string(8, 'x'),
        Number(1'000) + std::string(8'000, 'x'), std::string("ab")}) {
    Peers peers;
    Result<> result = peers.server.Receive(Frame(4, 0, payload));
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message(), HasSubstr("SETTINGS"));
    EXPECT_THAT(peers.server.TakeOutput(), HasSubstr(std::string("\x80\x03\x00\x07", 4)));  // GOAWAY
  }
}

TEST(Spdy, S46HeaderBlocksThatLieResetTheirStream) {
  std::string one = Number(1) + Number(1) + "a" + Number(1) + "b";
  for (std::string plain :
       {Number(0xffffffff), Number(1) + Number(0xffffffff), Number(1) + Number(1) + "a" + Number(0xfffffffe) + "b",
        Number(2) + one.substr(4), one + "rest", Number(1) + Number(1) + "A" + Number(1) + "b", std::string("x"),
        Number(2) + one.substr(4) + one.substr(4), Number(5'000) + one.substr(4)}) {
    Peers peers;
    ASSERT_TRUE(peers.server.Receive(SynStreamOf(1, plain)));
    EXPECT_THAT(peers.server_diary.lines, IsEmpty());
    std::string reset;
    SpdyFrameWriter::RstStream(reset, 1, SpdyStatus::kProtocolError);
    EXPECT_EQ(peers.server.TakeOutput(), reset);
  }
  Peers peers;
  ASSERT_TRUE(peers.server.Receive(SynStreamOf(1, one)));
  EXPECT_THAT(peers.server_diary.lines, ElementsAre("open 1 a=b"));
}

TEST(Spdy, S46ZlibBombEndsTheConnection) {
  Peers peers;
  std::string bomb = SynStreamOf(1, Number(1) + Number(1) + "a" + Number(8 << 20) + std::string(8 << 20, 'x'));
  ASSERT_LT(bomb.size(), 32u << 10);
  Result<> result = peers.server.Receive(bomb);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("without end"));
}

TEST(Spdy, S46LongControlFramesAreRefusedBeforeTheyAreKept) {
  Peers peers;
  std::string header = Frame(1, 0, std::string(0, 'x'));
  header[5] = '\x7f';
  Result<> result = peers.server.Receive(header);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("control frame of"));
}

TEST(Spdy, S46StreamsAreLimited) {
  Peers peers;
  for (int i = 0; i < 300; ++i) peers.client.Open({});
  peers.Exchange();
  EXPECT_EQ(peers.server.streams(), 256u);
  EXPECT_EQ(peers.client_diary.lines.size(), 44u);
}

TEST(Spdy, WindowsDoNotWrap) {
  Peers peers;
  uint32_t a = peers.client.Open({});
  peers.Exchange();
  std::string update;
  SpdyFrameWriter::WindowUpdate(update, a, 0x7fffffff);
  ASSERT_TRUE(peers.server.Receive(update));
  EXPECT_THAT(peers.server_diary.lines, ElementsAre("open 1", "reset 1"));
  SpdyFrameWriter::WindowUpdate(update, 0, 0x7fffffff);
  EXPECT_FALSE(peers.server.Receive(update));
}

TEST(Spdy, StreamNumbersGrowAndAreTheClients) {
  for (std::vector<uint32_t> numbers : {std::vector<uint32_t>{2}, {0}, {3, 1}, {1, 1}}) {
    Peers peers;
    SpdyFrameWriter writer;
    std::string bytes;
    for (uint32_t number : numbers) writer.SynStream(bytes, number, {}, 0);
    EXPECT_FALSE(peers.server.Receive(bytes));
  }
}

TEST(Spdy, MutationsNeverCrash) {
  Peers peers;
  uint32_t a = peers.client.Open({{"streamtype", "data"}, {"requestid", "0"}});
  peers.client.Send(a, "some data");
  peers.client.Open({{"streamtype", "error"}});
  peers.client.End(a);
  std::string good = peers.client.TakeOutput();
  std::mt19937 random(7);
  for (int round = 0; round < 5'000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    Diary diary;
    SpdySession session(SpdySession::Role::kServer, diary, {});
    (void)session.Receive(bytes);
    EXPECT_LT(session.output_bytes(), 1u << 20);
  }
}

}  // namespace
}  // namespace crisp::codec
