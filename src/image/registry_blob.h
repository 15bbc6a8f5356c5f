// One blob from one host after the other: where it stands, and how the next host goes on with it.
// Threading: one thread; FetchRanges' threads work for it meanwhile.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "image/registry_host.h"

namespace crisp::image {

class BlobFetch {
 public:
  // All references outlive this. `offset`: what the sink has got already.
  BlobFetch(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t offset, const BlobSink& sink,
            const SplitOptions& split)
      : ctx_(ctx), descriptor_(descriptor), sink_(sink), split_(split), done_(offset) {}

  // Goes on with the blob at `client` as far as that gets. kOk: complete. kFinal: the sink failed, see sink_error.
  Attempt Try(HostClient& client);
  const uint64_t& done() const { return done_; }
  std::optional<Error>& sink_error() { return sink_error_; }

 private:
  Attempt Stream(HostClient& client, bool may_split);
  void Split(HostClient& client);
  Result<> FetchChunk(const Ctx& ctx, HostClient& client, uint64_t from, std::span<char> into) const;

  const Ctx& ctx_;
  const oci::Descriptor& descriptor_;
  const BlobSink& sink_;
  const SplitOptions& split_;
  uint64_t done_;
  bool too_slow_ = false;  // set by Stream when Split is worth it
  std::optional<Error> sink_error_;
};

// A refusal of ours, made in a handler, does not know yet whom it is about.
void NameHost(const HostClient& client, Attempt& attempt);
// kDataLoss: what every refusal of content begins with.
Error RegistryLies(std::string_view what);

}  // namespace crisp::image
