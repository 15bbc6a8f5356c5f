// Client of the OCI distribution API (distribution-spec 1.1), with mirrors and hosts by certs.d/<host>/hosts.toml.
//
//   Registry registry(options);                              // one per process; keeps nothing but options
//   auto repo = TRY(registry.Open(reference, credentials));  // one per pull: reads hosts.toml, no network yet
//   ManifestBytes top = TRY(repo->Resolve(ctx));             // tag or digest → bytes, verified
//   TRY(repo->FetchBlob(ctx, layer, 0, sink));               // any thread, in parallel
//
// For the usual walk index → manifest → config use ResolveImage of image/registry_image.h.
//
// Threading: Registry and Repository from any thread. A call blocks its thread until done, ctx ends, or the transfer
// stalls; cancellation is noticed at once. The sink runs on the calling thread; while it runs nothing is read from the
// network (back-pressure), and its time never counts as a stall.
// Errors: kNotFound (no such repository, tag or blob), kUnauthenticated, kPermissionDenied, kDataLoss (the registry
// lies: digest, size, range), kCancelled/kDeadlineExceeded (ctx), and kUnavailable for everything that may be better
// later (429 too), with a message that begins with "RegistryUnavailable: ": the kubelet looks for that prefix
// (pkg/kubelet/images/image_manager.go), so don't put context before it. An error of the sink is returned as it is. No
// credential is ever part of an error (URLs are told without query and userinfo).
//
// Which host is asked, in which order, and what each failure leads to: README.md, "Hosts and fallback".
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/context.h"
#include "image/types.h"
#include "oci/manifest.h"
#include "oci/reference.h"

namespace crisp::image {

// When the network, not the consumer, is what a large blob waits for, several connections take over.
struct SplitOptions {
  int streams = 4;  // 1: never. Memory: (streams + 1) chunks, for one blob of a pull at a time
  uint64_t chunk_bytes = 4u << 20;
  uint64_t left_min = 64u << 20;                         // still to come
  std::chrono::milliseconds after{1'000};                // of waiting for the network
  uint64_t bytes_per_second_max = 100u * 1'000 * 1'000;  // faster than that: left alone
};

struct RegistryOptions {
  std::string certs_dir;      // holds <host>/hosts.toml; empty or missing: none
  std::string docker_config;  // a docker config.json (auths, credHelpers, credsStore), read at each Open; empty: none
  std::string user_agent = "crisp/" CRISP_VERSION;
  std::chrono::milliseconds connect_timeout{30'000};
  // A transfer that got less than stall_bytes_min in a stall_window is given up (and tried again like any broken one).
  std::chrono::milliseconds stall_window{60'000};
  uint64_t stall_bytes_min = 60u * 1024;
  // Rounds over the hosts, for what may pass: transport, 5xx, 429. A broken blob goes on where it broke.
  int attempts_max = 5;
  std::chrono::milliseconds backoff_first{500};   // doubles, with jitter
  std::chrono::milliseconds backoff_max{30'000};  // also the longest Retry-After that is waited for
  SplitOptions split;
};

struct ManifestBytes {
  std::string bytes;
  std::string content_type;  // as the server said
  oci::Digest digest;        // of `bytes`, verified against what was asked for
};

using BlobSink = std::function<Result<>(std::string_view bytes)>;

// One repository (name) as seen through its hosts, with the credentials of one pull.
class Repository {
 public:
  virtual ~Repository() = default;

  // The manifest or index that the reference names. Verified when the reference has a digest or the server names one.
  virtual Result<ManifestBytes> Resolve(const Ctx& ctx) = 0;
  // The descriptor of what the reference names now, by HEAD (does not count against pull limits). Falls back to
  // Resolve.
  virtual Result<oci::Descriptor> Head(const Ctx& ctx) = 0;
  // A manifest by its descriptor; digest, size and media type verified.
  virtual Result<ManifestBytes> FetchManifest(const Ctx& ctx, const oci::Descriptor& descriptor) = 0;

  // Streams blob bytes [offset, size) to `sink`, in order, each byte once, over however many connections and hosts it
  // takes. Checks that exactly the descriptor's size comes; the digest is the caller's to verify. offset > 0 continues
  // an earlier, broken call.
  virtual Result<> FetchBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t offset,
                             const BlobSink& sink) = 0;
  // The bytes of FetchBlob turned out to have another digest: the hosts that served them are not asked for this blob
  // again. True: another host is left, start again at offset 0. False: give up with kDataLoss.
  virtual bool RejectBlob(const oci::Descriptor& descriptor) = 0;
  // A small blob (an image config) as a whole, size and digest verified. kInvalidArgument when larger than `bytes_max`.
  virtual Result<std::string> FetchSmallBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t bytes_max) = 0;
};

class Registry {
 public:
  explicit Registry(RegistryOptions options) : options_(std::move(options)) {}
  // `credentials` (of the CRI call; may be empty) are for the registry named in the reference, never for its mirrors.
  // Credential helpers run when a host first asks for authorization. kInvalidArgument: a broken hosts.toml or
  // config.json, named by path.
  Result<std::unique_ptr<Repository>> Open(const oci::Reference& reference, const Credentials& credentials) const;

 private:
  RegistryOptions options_;
};

}  // namespace crisp::image
