// Large blobs over several connections.
#include "image/registry_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <future>

#include "base/strings.h"
#include "image/testing/fake_registry.h"
#include "image/testing/http_server.h"

namespace crisp::image {
namespace {

using testing::Digest256;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::HttpServer;
using testing::Pattern;
using testing::QuickOptions;
using testing::Request;
using testing::Response;

// ---- FetchRanges alone ----

TEST(FetchRanges, ChunksComeInOrderAndWhole) {
  std::string blob = Pattern(1'000'003);
  FetchChunk fetch = [&](const Ctx&, uint64_t from, std::span<char> into) -> Result<> {
    std::memcpy(into.data(), blob.data() + from, into.size());
    return {};
  };
  for (uint64_t begin : {0u, 1u, 999'999u, 1'000'002u}) {
    std::string got;
    RangesResult result = FetchRanges(Ctx(), {begin, blob.size(), 1000, 3}, fetch, [&](std::string_view bytes) {
      got += bytes;
      return Result<>();
    });
    EXPECT_EQ(result.done, blob.size());
    EXPECT_TRUE(got == blob.substr(begin)) << begin;
  }
}

TEST(FetchRanges, AFailedChunkEndsItWhereItIs) {
  FetchChunk fetch = [](const Ctx&, uint64_t from, std::span<char>) -> Result<> {
    return from < 5000 ? Result<>() : Error(Code::kUnavailable, "x");
  };
  uint64_t taken = 0;
  RangesResult result = FetchRanges(Ctx(), {0, 100'000, 1000, 4}, fetch, [&](std::string_view bytes) {
    taken += bytes.size();
    return Result<>();
  });
  EXPECT_EQ(result.done, 5000u);
  EXPECT_EQ(taken, 5000u);
  EXPECT_FALSE(result.sink_error);
}

TEST(FetchRanges, NoMoreIsFetchedThanTheSinkCanFollow) {
  std::atomic<uint64_t> furthest = 0;
  FetchChunk fetch = [&](const Ctx&, uint64_t from, std::span<char>) -> Result<> {
    for (uint64_t seen = furthest; seen < from && !furthest.compare_exchange_weak(seen, from);) {
    }
    return {};
  };
  uint64_t taken = 0;
  FetchRanges(Ctx(), {0, 100'000, 1000, 4}, fetch, [&](std::string_view bytes) {
    EXPECT_LE(furthest, taken + 5 * 1000);
    taken += bytes.size();
    return Result<>();
  });
}

TEST(FetchRanges, TheSinksErrorAndTheEndOfCtxStopAll) {
  std::promise<void> reached;
  std::once_flag once;
  // Hangs as a dead connection does, until its ctx ends.
  FetchChunk hang = [&](const Ctx& ctx, uint64_t from, std::span<char>) -> Result<> {
    if (from == 0) return {};
    std::call_once(once, [&] { reached.set_value(); });
    std::promise<void> stopped;
    std::stop_callback callback(ctx.stop(), [&] { stopped.set_value(); });
    stopped.get_future().wait();
    return ctx.Check();
  };
  RangesResult failed = FetchRanges(Ctx(), {0, 100'000, 1000, 4}, hang, [](std::string_view) -> Result<> {
    return Error(Code::kResourceExhausted, "disk full");
  });
  ASSERT_TRUE(failed.sink_error);
  EXPECT_EQ(failed.done, 0u);

  std::stop_source stop;
  Ctx ctx(Clock::time_point::max(), stop.get_token(), "");
  auto cancelled = std::async(std::launch::async, [&] {
    return FetchRanges(ctx, {0, 100'000, 1000, 4}, hang, [](std::string_view) { return Result<>(); }).done;
  });
  reached.get_future().wait();
  stop.request_stop();
  EXPECT_LE(cancelled.get(), 1000u);
  RangesResult late = FetchRanges(Ctx().WithTimeout(std::chrono::milliseconds(20)), {0, 100'000, 1000, 4}, hang,
                                  [](std::string_view) { return Result<>(); });
  EXPECT_LE(late.done, 1000u);
}

// ---- in a repository ----

class SplitTest : public ::testing::Test {
 protected:
  SplitTest() : blob_(Pattern(3'000'000)) {
    fake_.AddBlob(blob_);
    // Every connection is too slow at once.
    options_.split = {.streams = 3,
                      .chunk_bytes = 100'000,
                      .left_min = 1,
                      .after = std::chrono::milliseconds(0),
                      .bytes_per_second_max = UINT64_MAX / (1u << 20)};
  }
  Result<std::string> Fetch(const HttpServer& server) {
    auto repository = Registry(options_).Open(*oci::Reference::Parse(server.Host() + "/app:v1"), {});
    oci::Descriptor blob{.digest = *oci::Digest::Parse(Digest256(blob_)), .size = blob_.size()};
    return (*repository)->FetchSmallBlob(Ctx(), blob, blob_.size());
  }
  std::string blob_;
  FakeRegistry fake_;
  RegistryOptions options_ = QuickOptions();
};

TEST_F(SplitTest, ASlowBlobIsFetchedInChunks) {
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  Result<std::string> got = Fetch(server);
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_TRUE(*got == blob_);
  EXPECT_GE(server.Requests().size(), 29u);
  EXPECT_THAT(server.Requests()[3].Header("range"), HasSubstr("bytes="));
}

TEST_F(SplitTest, AFastOneIsNot) {
  options_.split.bytes_per_second_max = 0;
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  EXPECT_TRUE(Fetch(server));
  EXPECT_EQ(server.Requests().size(), 1u);
}

TEST_F(SplitTest, ABrokenChunkIsTriedAgain) {
  int count = 0;
  HttpServer server([&](const Request& r) {
    Response response = fake_.Answer(r);
    if (++count % 5 == 0) response.cut = 10;
    return response;
  });
  Result<std::string> got = Fetch(server);
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_TRUE(*got == blob_);
}

TEST_F(SplitTest, AServerWithoutRangesServesInOneStream) {
  HttpServer server([&](const Request&) { return Response{.body = blob_}; });
  Result<std::string> got = Fetch(server);
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_TRUE(*got == blob_);
}

TEST_F(SplitTest, LyingRangesEndInAnError) {
  HttpServer server([&](const Request& r) {
    if (r.Header("range").empty()) return Response{.body = blob_};
    return Response{.status = 206, .headers = {{"Content-Range", "bytes 7-9/10"}}, .body = "abc"};
  });
  Result<std::string> got = Fetch(server);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace crisp::image
