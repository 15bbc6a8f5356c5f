#include "codec/ttrpc.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "codec/nri_mux.h"

namespace crisp::codec {
namespace {

TEST(Ttrpc, BytesOnTheWire) {
  Result<std::string> bytes =
      EncodeTtrpc({.stream = 0x01020304, .type = TtrpcType::kResponse, .flags = 4, .body = "ab"});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(HexEncode(*bytes),
            "00000002"
            "01020304"
            "02"
            "04"
            "6162");
}

TEST(Ttrpc, FramesInPiecesOfAnySize) {
  std::vector<TtrpcFrame> frames = {{1, TtrpcType::kRequest, 0, "hello"},
                                    {1, TtrpcType::kResponse, 0, ""},
                                    {0xffffffff, TtrpcType::kData, 7, std::string(70'000, 'x')}};
  std::string bytes;
  for (const TtrpcFrame& frame : frames) bytes += EncodeTtrpc(frame).value();
  for (size_t piece : {size_t{1}, size_t{7}, size_t{4096}, bytes.size()}) {
    TtrpcReader reader;
    std::vector<TtrpcFrame> seen;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      ASSERT_TRUE(reader.Push(std::string_view(bytes).substr(at, piece), seen));
    }
    EXPECT_EQ(seen, frames) << piece;
  }
}

TEST(Ttrpc, Limits) {
  std::string longest(kTtrpcBodyBytesMax, 'x');
  EXPECT_TRUE(EncodeTtrpc({.body = longest}));
  EXPECT_EQ(EncodeTtrpc({.body = longest + "x"}).error().code(), Code::kResourceExhausted);
  std::vector<TtrpcFrame> frames;
  TtrpcReader reader;
  std::string head("\x00\x40\x00\x01\x00\x00\x00\x01\x01\x00", 10);  // one byte too long
  EXPECT_EQ(reader.Push(head, frames).error().code(), Code::kDataLoss);
  EXPECT_EQ(reader.Push("", frames).error().code(), Code::kDataLoss) << "the error stays";
  TtrpcReader other;
  EXPECT_EQ(other.Push(std::string_view("\x00\x00\x00\x00\x00\x00\x00\x01\x09\x00", 10), frames).error().code(),
            Code::kDataLoss);
  EXPECT_TRUE(frames.empty());
}

// What NRI's Go side reads into a buffer of 4096 bytes first must not be longer, and there is room for 256 payloads.
TEST(NriMux, IsCutAsGoPluginsReadIt) {
  for (size_t size : {size_t{10}, size_t{4096}, size_t{4097}, size_t{9000}, kNriMuxPayloadBytesMax}) {
    std::string message(size, 'm');
    std::vector<NriMuxFrame> frames;
    NriMuxReader reader;
    ASSERT_TRUE(reader.Push(EncodeNriMux(2, message), frames));
    ASSERT_EQ(frames.size(), size > 4096 ? 2u : 1u) << size;
    EXPECT_LE(frames[0].payload.size(), 4096u);
    std::string all;
    for (const NriMuxFrame& frame : frames) {
      EXPECT_EQ(frame.connection, 2u);
      all += frame.payload;
    }
    EXPECT_EQ(all, message);
  }
}

TEST(NriMux, BytesAndLimits) {
  EXPECT_EQ(HexEncode(EncodeNriMux(1, "ab")),
            "00000001"
            "00000002"
            "6162");
  std::vector<NriMuxFrame> frames;
  NriMuxReader reader;
  for (char c : EncodeNriMux(1, "ab") + EncodeNriMux(7, "")) ASSERT_TRUE(reader.Push(std::string_view(&c, 1), frames));
  EXPECT_EQ(frames, (std::vector<NriMuxFrame>{{1, "ab"}, {7, ""}}));
  EXPECT_EQ(reader.Push(std::string_view("\x00\x00\x00\x01\x00\x40\x00\x0b", 8), frames).error().code(),
            Code::kDataLoss);
}

}  // namespace
}  // namespace crisp::codec
