#include "image/registry_blob.h"

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "image/registry_ranges.h"

namespace crisp::image {

namespace {

// "bytes 100-199/200": the first number, and the total when it is there.
bool ContentRangeFits(std::string_view header, uint64_t offset, uint64_t size) {
  if (!header.starts_with("bytes ")) return false;
  header.remove_prefix(6);
  size_t dash = header.find('-');
  size_t slash = header.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return false;
  std::string_view total = header.substr(slash + 1);
  return ParseInt<uint64_t>(header.substr(0, dash)) == offset && (total == "*" || ParseInt<uint64_t>(total) == size);
}

// Measures what the network gives while nobody else is waited for.
class Pace {
 public:
  explicit Pace(const SplitOptions& options) : options_(options) {}
  void Took(Clock::duration consumer) { start_ += consumer; }
  void Got(size_t bytes) { bytes_ += bytes; }
  bool TooSlow(uint64_t left) const {
    if (left < options_.left_min) return false;
    auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_);
    if (waited < options_.after) return false;
    return bytes_ * 1'000 <= options_.bytes_per_second_max * static_cast<uint64_t>(waited.count() + 1);
  }

 private:
  const SplitOptions& options_;
  Clock::time_point start_ = Clock::now();
  uint64_t bytes_ = 0;
};

// Takes one answer that has the blob from `done` on, or from the start, and passes each byte of the blob on once.
class Reader {
 public:
  Reader(uint64_t size, uint64_t& done, const BlobSink& sink, Pace* pace)
      : size_(size), done_(done), sink_(sink), pace_(pace) {}

  HttpHandler Handler() {
    return {.on_head = [this](const HttpHead& head) { return OnHead(head); },
            .on_body = [this](std::string_view bytes) { return OnBody(bytes); }};
  }
  std::optional<Error>& sink_error() { return sink_error_; }
  bool too_slow() const { return too_slow_; }

 private:
  Result<> OnHead(const HttpHead& head) {
    skip_ = 0;
    if (head.status == 206) {
      if (!ContentRangeFits(head.Get("content-range"), done_, size_)) {
        return RegistryLies("another range than asked for");
      }
    } else {
      skip_ = done_;  // the server knows no ranges and starts again
      std::optional<uint64_t> length = ParseInt<uint64_t>(head.Get("content-length"));
      if (length && *length != size_) {
        return RegistryLies(StrCat("a blob of ", *length, " bytes, ", size_, " in the manifest"));
      }
    }
    return {};
  }

  Result<> OnBody(std::string_view bytes) {
    size_t skipped = static_cast<size_t>(std::min<uint64_t>(skip_, bytes.size()));
    skip_ -= skipped;
    bytes.remove_prefix(skipped);
    if (bytes.size() > size_ - done_) return RegistryLies(StrCat("more than the ", size_, " bytes in the manifest"));
    if (bytes.empty()) return {};
    Clock::time_point start = Clock::now();
    Result<> taken = sink_(bytes);
    if (!taken) {
      sink_error_ = taken.error();
      return taken;
    }
    done_ += bytes.size();
    if (pace_ == nullptr) return {};
    pace_->Took(Clock::now() - start);
    pace_->Got(bytes.size());
    too_slow_ = pace_->TooSlow(size_ - done_);
    if (too_slow_) return Error(Code::kAborted, "several connections go on with it");
    return {};
  }

  const uint64_t size_;
  uint64_t& done_;
  const BlobSink& sink_;
  Pace* pace_;  // null: never too slow
  uint64_t skip_ = 0;
  bool too_slow_ = false;
  std::optional<Error> sink_error_;
};

}  // namespace

void NameHost(const HostClient& client, Attempt& attempt) {
  if (attempt.handler_failed && attempt.error) {
    attempt.error = std::move(*attempt.error).Context(client.config().Base());
  }
}

Error RegistryLies(std::string_view what) { return Error(Code::kDataLoss, StrCat("the registry lies: ", what)); }

Attempt BlobFetch::Try(HostClient& client) {
  Attempt attempt = Stream(client, split_.streams > 1);
  if (too_slow_) {
    too_slow_ = false;
    Split(client);
    // Whatever is missing after that is fetched in the plain way, which also finds out what is wrong.
    if (!sink_error_ && done_ < descriptor_.size) attempt = Stream(client, false);
    if (!sink_error_ && done_ == descriptor_.size) attempt.verdict = Verdict::kOk;
  }
  if (sink_error_) attempt.verdict = Verdict::kFinal;
  return attempt;
}

Attempt BlobFetch::Stream(HostClient& client, bool may_split) {
  Pace pace(split_);
  Reader reader(descriptor_.size, done_, sink_, may_split ? &pace : nullptr);
  HostRequest request{.path = StrCat("/blobs/", descriptor_.digest.str()), .handler = reader.Handler()};
  if (done_ > 0) request.headers.push_back(StrCat("Range: bytes=", done_, "-"));
  Attempt attempt = client.Do(ctx_, request);
  sink_error_ = std::move(reader.sink_error());
  too_slow_ = reader.too_slow();
  if (sink_error_ || too_slow_) return attempt;
  NameHost(client, attempt);
  if (attempt.verdict == Verdict::kOk && done_ < descriptor_.size) {
    attempt.verdict = Verdict::kRetry;
    attempt.error = Error(Code::kUnavailable, StrCat(client.config().Base(), ": the blob ended after ", done_, " of ",
                                                     descriptor_.size, " bytes"));
  } else if (attempt.verdict == Verdict::kRetry && done_ == descriptor_.size && descriptor_.size > 0) {
    attempt.verdict = Verdict::kOk;  // it broke after the last byte
  }
  return attempt;
}

void BlobFetch::Split(HostClient& client) {
  RangePlan plan{.begin = done_, .end = descriptor_.size, .chunk_bytes = split_.chunk_bytes, .streams = split_.streams};
  RangesResult result = FetchRanges(
      ctx_, plan,
      [&](const Ctx& ctx, uint64_t from, std::span<char> into) { return FetchChunk(ctx, client, from, into); }, sink_);
  done_ = result.done;
  sink_error_ = std::move(result.sink_error);
}

// One chunk, twice if need be: a connection that breaks must not end what the others do well.
Result<> BlobFetch::FetchChunk(const Ctx& ctx, HostClient& client, uint64_t from, std::span<char> into) const {
  constexpr int kTries = 2;
  Attempt attempt;
  for (int i = 0; i < kTries; ++i) {
    size_t got = 0;
    HostRequest request{.path = StrCat("/blobs/", descriptor_.digest.str())};
    request.headers.push_back(StrCat("Range: bytes=", from, "-", from + into.size() - 1));
    request.handler.on_head = [&](const HttpHead& head) -> Result<> {
      bool fits = head.status == 206 && ContentRangeFits(head.Get("content-range"), from, descriptor_.size);
      return fits ? Result<>() : RegistryLies("another range than asked for");
    };
    request.handler.on_body = [&](std::string_view bytes) -> Result<> {
      if (bytes.size() > into.size() - got) return RegistryLies("more than asked for");
      std::memcpy(into.data() + got, bytes.data(), bytes.size());
      got += bytes.size();
      return {};
    };
    attempt = client.Do(ctx, request);
    if (attempt.verdict == Verdict::kOk && got == into.size()) return {};
    if (attempt.verdict == Verdict::kNextHost || attempt.verdict == Verdict::kFinal) break;
  }
  if (attempt.error) return std::move(*attempt.error);
  return Error(Code::kUnavailable, "a chunk ended early");
}

}  // namespace crisp::image
