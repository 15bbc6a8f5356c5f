// A part of a blob over several connections at once: chunks are fetched by threads of their own and handed on in order.
// One TCP stream seldom fills a long line (containerd#10177: 8.6 GB in half the time with several).
// Threading: FetchRanges blocks its caller, on whose thread the sink runs; all its threads have ended when it returns.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/context.h"
#include "image/registry.h"

namespace crisp::image {

struct RangePlan {
  uint64_t begin = 0;
  uint64_t end = 0;  // behind the last byte
  uint64_t chunk_bytes = 0;
  int streams = 0;  // memory: (streams + 1) chunks, given back to the kernel at the end
};
// Fills `into` with the blob's bytes from `from` on. Runs on any thread; must end soon after ctx ends.
using FetchChunk = std::function<Result<>(const Ctx& ctx, uint64_t from, std::span<char> into)>;

struct RangesResult {
  uint64_t done = 0;  // the sink has taken everything before this offset
  std::optional<Error> sink_error;
};
// Goes on until the end, the first chunk that fails, an error of the sink, or the end of ctx. What is missing then is
// the caller's to fetch in another way.
RangesResult FetchRanges(const Ctx& ctx, const RangePlan& plan, const FetchChunk& fetch, const BlobSink& sink);

}  // namespace crisp::image
