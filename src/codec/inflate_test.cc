#include "codec/inflate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <random>
#include <string>

namespace crisp::codec {
namespace {

class StringSink : public ByteSink {
 public:
  explicit StringSink(size_t room = 4096) : room_(room, '\0') {}
  std::span<char> Room() override { return room_; }
  Result<> Filled(size_t bytes) override {
    text.append(room_, 0, bytes);
    if (text.size() > bytes_max) return Error(Code::kResourceExhausted, "enough");
    return {};
  }
  std::string text;
  size_t bytes_max = 64u << 20;

 private:
  std::string room_;
};

std::string Gzip(std::string_view plain) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::string out(plain.size() + 4096, '\0');
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(plain.data()));
  stream.avail_in = static_cast<uint32_t>(plain.size());
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = static_cast<uint32_t>(out.size());
  EXPECT_EQ(isal_deflate(&stream), COMP_OK);
  out.resize(stream.total_out);
  return out;
}

std::string Zstd(std::string_view plain, int window_log = 0) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  ZSTD_CCtx* ctx = ZSTD_createCCtx();
  if (window_log > 0) {
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 0);
  }
  ZSTD_inBuffer in{plain.data(), plain.size(), 0};
  ZSTD_outBuffer buffer{out.data(), out.size(), 0};
  // First an empty flush, so that the frame header cannot shrink its window to the content.
  if (window_log > 0) {
    ZSTD_inBuffer none{plain.data(), 1, 0};
    ZSTD_compressStream2(ctx, &buffer, &none, ZSTD_e_flush);
    in.pos = 1;
  }
  EXPECT_EQ(ZSTD_compressStream2(ctx, &buffer, &in, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(ctx);
  out.resize(buffer.pos);
  return out;
}

std::string SomeText(size_t bytes) {
  std::mt19937 random(7);
  std::string text;
  while (text.size() < bytes) text += "line " + std::to_string(random() % 100'000) + "\n";
  text.resize(bytes);
  return text;
}

Result<std::string> Inflate(std::string_view packed, size_t step, size_t room = 4096) {
  StringSink sink(room);
  Inflater inflater(sink);
  for (size_t at = 0; at < packed.size(); at += step) TRY(inflater.Push(packed.substr(at, step)));
  TRY(inflater.Finish());
  return std::move(sink.text);
}

TEST(Inflate, EveryKindAtEveryStepAndRoom) {
  const std::string plain = SomeText(300'000);
  for (const std::string& packed : {Gzip(plain), Zstd(plain), plain}) {
    for (size_t step : {1u, 7u, 1000u, 1u << 20}) {
      for (size_t room : {1u, 13u, 4096u, 1u << 20}) {
        if (step == 1 && room == 1) continue;  // slow, and covered by its neighbours
        auto inflated = Inflate(packed, step, room);
        ASSERT_TRUE(inflated) << inflated.error().message();
        ASSERT_EQ(*inflated, plain) << step << " " << room;
      }
    }
  }
}

TEST(Inflate, MembersAndFramesFollowEachOther) {
  const std::string a = SomeText(100'000), b = "second", none;
  for (size_t step : {1u, 5u, 18u, 1u << 20}) {
    EXPECT_EQ(*Inflate(Gzip(a) + Gzip(none) + Gzip(b), step), a + b) << step;
    EXPECT_EQ(*Inflate(Zstd(a) + Zstd(none) + Zstd(b), step), a + b) << step;
    const std::string skippable("\x5a\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
    EXPECT_EQ(*Inflate(skippable + Zstd(b) + skippable, step), b) << step;
  }
}

TEST(Inflate, ShortPlainBytesAreKept) {
  EXPECT_EQ(*Inflate("", 1), "");
  EXPECT_EQ(*Inflate("a", 1), "a");
  EXPECT_EQ(*Inflate("\x1f", 1), "\x1f");
  EXPECT_EQ(*Inflate("\x28\xb5\x2f", 1), "\x28\xb5\x2f");
  EXPECT_EQ(*Inflate("\x28\xb5\x2f!!", 1), "\x28\xb5\x2f!!");
}

TEST(Inflate, EveryTruncationIsAnError) {
  const std::string plain = SomeText(5000);
  for (const std::string& packed : {Gzip(plain), Zstd(plain)}) {
    for (size_t size = 4; size < packed.size(); ++size) {
      auto inflated = Inflate(packed.substr(0, size), 100);
      ASSERT_FALSE(inflated) << size;
      ASSERT_EQ(inflated.error().code(), Code::kDataLoss);
    }
  }
}

TEST(Inflate, DamagedBytesAreFound) {
  const std::string plain = SomeText(50'000);
  std::string gzip = Gzip(plain);
  for (size_t at : {gzip.size() / 2, gzip.size() - 2, gzip.size() - 7}) {
    std::string damaged = gzip;
    damaged[at] ^= 0x10;
    EXPECT_FALSE(Inflate(damaged, 1000)) << at;
  }
  EXPECT_FALSE(Inflate(gzip + "garbage", 1000));
  std::string zstd = Zstd(plain);
  zstd[10] ^= 0x7f;
  EXPECT_FALSE(Inflate(zstd, 1000));
}

TEST(Inflate, ZstdWindowIsLimited) {
  const std::string plain = SomeText(100'000);
  EXPECT_EQ(*Inflate(Zstd(plain, 27), 10'000), plain);
  auto inflated = Inflate(Zstd(plain, 28), 10'000);
  ASSERT_FALSE(inflated);
  EXPECT_EQ(inflated.error().code(), Code::kInvalidArgument);
}

TEST(Inflate, S07BombStopsWhereTheSinkSays) {
  const std::string zeros(200u << 20, '\0');
  for (const std::string& packed : {Gzip(zeros), Zstd(zeros)}) {
    ASSERT_LT(packed.size(), zeros.size() / 50);
    StringSink sink;
    sink.bytes_max = 1u << 20;
    Inflater inflater(sink);
    auto pushed = inflater.Push(packed);
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code(), Code::kResourceExhausted);
    EXPECT_LT(sink.text.size(), 2u << 20);
  }
}

TEST(Inflate, RandomBytesNeverCrash) {
  std::mt19937 random(1);
  const std::string gzip = Gzip(SomeText(20'000)), zstd = Zstd(SomeText(20'000));
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = round % 2 == 0 ? gzip : zstd;
    for (int i = 0; i < 5; ++i) bytes[4 + random() % (bytes.size() - 4)] = static_cast<char>(random());
    (void)Inflate(bytes, 1 + random() % 3000).has_value();
  }
}

}  // namespace
}  // namespace crisp::codec
