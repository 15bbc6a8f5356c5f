// ImageService: pulls, keeps and hands out images. The one entrance to this module.
//
// Threading: every method from any thread; Pull blocks its caller (call it on the pool for long operations), everything
// else answers from memory. Single flight per reference, per blob digest and per diffID: ten pods that ask for one cold
// image make one fetch.
// Durability (DESIGN §4): a layer directory counts only once it has been synced, renamed into place and recorded; after
// a crash or power cut an unproven layer is fetched again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "image/types.h"

namespace crisp::state {
class Database;
}

namespace crisp::image {

struct ServiceOptions {
  std::string root_dir;       // images live in <root_dir>/images (layers/, tmp/); durable
  std::string certs_dir;      // certs.d with hosts.toml; may be missing
  std::string docker_config;  // path of a docker config.json with auths/credHelpers; may be empty
  std::vector<std::string>
      pinned;  // references (exact, normalised here) which are never removed by a GC: Image::pinned
  // Signature policies, containers-policy.json(5); empty: everything is accepted. Read at each pull. image/trust.h.
  std::string signature_policy;         // path of a policy.json
  std::string signature_policy_dir;     // NAMESPACE.json here counts instead for pods of that namespace
  std::string signature_lookaside_dir;  // registries.d: where GPG signatures are
  int layers_parallel_max = 4;
  std::string platform_os = "linux";
  std::string platform_arch;  // GOARCH name; this machine's when empty
};

class Service {
 public:
  // Opens the store, quarantines records that do not parse, and removes whatever has no owner (orphan sweep).
  // `db` outlives the service. Never fails on a bad record.
  static Result<std::unique_ptr<Service>> Open(const ServiceOptions& options, state::Database& db);
  virtual ~Service() = default;

  // Pulls `reference` ("busybox", "quay.io/x/y:tag", "…@sha256:…") unless what the registry names now is there already.
  // Returns the image. Errors: kInvalidArgument (reference), kNotFound (no such image), kUnauthenticated/
  // kPermissionDenied, kUnavailable "RegistryUnavailable: …", kDataLoss (registry lies about digest or size),
  // kResourceExhausted (disk full), kPermissionDenied "SignatureValidationFailed: …" (the signature policy for
  // `pod_namespace`, which may be empty, does not accept it). `runtime_handler` is noted with the image (KEP-4216); its
  // content is the same for all of them. Nothing half made stays after an error.
  using ProgressFn = std::function<void(const std::vector<PullProgress>&)>;
  virtual Result<ImageRef> Pull(const Ctx& ctx, const std::string& reference, const Credentials& credentials,
                                const ProgressFn& progress = {}, const std::string& pod_namespace = {},
                                const std::string& runtime_handler = {}) = 0;

  // By id ("sha256:…" or bare hex digits: all 64, or the first 7 or more of no other image's), tag reference, or digest
  // reference; names are normalised (busybox → docker.io/library/busybox:latest). nullptr: not there. kInvalidArgument:
  // not a reference at all.
  virtual Result<ImageRef> Find(const std::string& reference) const = 0;
  virtual std::vector<ImageRef> List() const = 0;

  // May a container of a pod in `pod_namespace` use `image`, which its creator calls `reference` ("" or an id: any of the
  // image's names)? The signature policy of this moment is asked, by the signatures that pulls have kept. Local, but
  // OpenPGP signatures take a process each. kPermissionDenied "SignatureValidationFailed: …".
  virtual Result<> CheckAllowed(const Ctx& ctx, const Image& image, const std::string& reference,
                                const std::string& pod_namespace) const = 0;

  // Removes the whole image whichever of its references is given (CRI RemoveImage); missing is success. An image in
  // use by a container is forgotten as an image at once; its layers stay until the last Lease on them is gone.
  // With a `runtime_handler` it stays for the others that it was pulled for.
  virtual Result<> Remove(const std::string& reference, const std::string& runtime_handler = {}) = 0;
  // Removes one tag only; the image goes with its last reference.
  virtual Result<> Untag(const std::string& reference) = 0;

  // Keeps the layers of `image_id` for `owner` (a container id) across restarts; recorded before it returns. Release is
  // idempotent. KeepOnly releases all leases whose owner is not `alive` (start-up
  // reconciliation, sweep); it is asked after a lease was found, so that a new owner is never taken for dead.
  virtual Result<> Lease(const std::string& image_id, const std::string& owner) = 0;
  virtual Result<> Release(const std::string& owner) = 0;
  virtual Result<> KeepOnly(const std::function<bool(const std::string& owner)>& alive) = 0;

  // OCI image layout or docker-save archive, plain or gzip/zstd tar, from `path`. Returns what was imported. Names in
  // the archive never move a tag of another image unless `reference` names it explicitly (S15): a name that already
  // stands for another image is refused with kAlreadyExists.
  virtual Result<std::vector<ImageRef>> Import(const Ctx& ctx, const std::string& path,
                                               const std::string& reference) = 0;
  // Writes an OCI image layout tar (with docker-compatible manifest.json) of `reference` to `path`. Layers are
  // re-created from their directories as uncompressed tars with identical diffIDs when possible, see the README. The
  // archive names the tag that `reference` is, or all of the image's tags where it is an id or a digest.
  virtual Result<> Export(const Ctx& ctx, const std::string& reference, const std::string& path) = 0;

  virtual Result<FsUsage> Usage() const = 0;  // of the image store; cached, cheap
};

}  // namespace crisp::image
