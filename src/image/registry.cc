#include "image/registry.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <set>

#include "base/strings.h"
#include "image/registry_blob.h"
#include "image/registry_host.h"

namespace crisp::image {

namespace {

using std::chrono::milliseconds;

// A broken blob that came this much further counts as progress: the count of attempts starts anew.
constexpr uint64_t kProgressMin = 1 << 20;
constexpr std::string_view kUnavailablePrefix = "RegistryUnavailable: ";
constexpr std::string_view kAcceptManifests[] = {oci::media_type::kOciIndex, oci::media_type::kDockerList,
                                                 oci::media_type::kOciManifest, oci::media_type::kDockerManifest};

std::string AcceptHeader() {
  std::string out = "Accept: ";
  for (std::string_view type : kAcceptManifests) out += StrCat(type, ", ");
  return out + "*/*;q=0.1";
}

// Waits for `time` unless ctx ends before.
Result<> Pause(const Ctx& ctx, milliseconds time) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_until(lock, ctx.stop(), std::min(ctx.deadline(), Clock::now() + time), [] { return false; });
  return ctx.Check();
}

// Half to all of the backoff of attempt `n` (from 0), so that a fleet of nodes does not come back in step.
milliseconds Backoff(const RegistryOptions& options, int n) {
  thread_local std::minstd_rand random(std::random_device{}());
  milliseconds full = options.backoff_first;
  for (int i = 0; i < n && full < options.backoff_max; ++i) full *= 2;
  full = std::min(full, options.backoff_max);
  return milliseconds(full.count() - static_cast<int64_t>(random() % static_cast<uint64_t>(full.count() / 2 + 1)));
}

// Collects a small body.
class BodyBuffer {
 public:
  explicit BodyBuffer(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  HttpHandler Handler() {
    return {.on_head = [this](const HttpHead&) { return bytes_.clear(), Result<>(); },
            .on_body = [this](std::string_view bytes) -> Result<> {
              if (bytes.size() > bytes_max_ - bytes_.size()) {
                return Error(Code::kInvalidArgument, StrCat("an answer of more than ", bytes_max_, " bytes"));
              }
              bytes_ += bytes;
              return {};
            }};
  }
  std::string& bytes() { return bytes_; }

 private:
  uint64_t bytes_max_;
  std::string bytes_;
};

class RepositoryImpl : public Repository {
 public:
  RepositoryImpl(const RegistryOptions& options, oci::Reference reference)
      : options_(options),
        context_{.options = options_,
                 .reference = std::move(reference),
                 .pool = HttpPool({.stall_window = options.stall_window, .stall_bytes_min = options.stall_bytes_min})} {
  }
  Result<> Init(const Credentials& credentials);

  Result<ManifestBytes> Resolve(const Ctx& ctx) override;
  Result<oci::Descriptor> Head(const Ctx& ctx) override;
  Result<ManifestBytes> FetchManifest(const Ctx& ctx, const oci::Descriptor& descriptor) override;
  Result<> FetchBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t offset, const BlobSink& sink) override;
  Result<std::string> FetchSmallBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t bytes_max) override;
  bool RejectBlob(const oci::Descriptor& descriptor) override;

 private:
  // One host of this repository and what has been learnt about it during the pull.
  struct Host {
    explicit Host(HostConfig config, RepositoryContext& context) : client(std::move(config), context) {}
    HostClient client;
    Synchronized<bool> down{false};
  };
  enum class Ask { kTag, kDigest };
  using AttemptFn = std::function<Attempt(HostClient&)>;
  // What one round over the hosts gave.
  struct Round {
    Host* served = nullptr;
    std::optional<Error> final;
    std::vector<Host*> again;    // worth another round
    bool authoritative = false;  // the registry itself has said no
    std::chrono::seconds retry_after{0};
  };

  std::vector<Host*> Candidates(Ask ask, const oci::Digest& blob) const;
  Result<Host*> OverHosts(const Ctx& ctx, Ask ask, const oci::Digest& blob, const uint64_t* done,
                          const AttemptFn& attempt);
  Round AskEach(const std::vector<Host*>& hosts, const AttemptFn& attempt, std::map<Host*, Error>& failures);
  Error Summary(const std::map<Host*, Error>& failures) const;
  Result<ManifestBytes> GetManifest(const Ctx& ctx, const std::string& target, const oci::Digest& wanted,
                                    const oci::Descriptor* descriptor);
  Error Finish(Error error) const;

  RegistryOptions options_;
  RepositoryContext context_;
  std::vector<std::unique_ptr<Host>> hosts_;
  struct Served {
    std::set<const HostClient*> by;        // hosts that gave bytes of the blob
    std::set<const HostClient*> rejected;  // hosts whose bytes were wrong
  };
  mutable Synchronized<std::map<oci::Digest, Served>> blobs_;
  std::atomic<bool> splitting_ = false;  // a FetchBlob has the right to use several connections
};

Result<> RepositoryImpl::Init(const Credentials& credentials) {
  context_.login = TRY(LoginFrom(credentials));
  const std::string& domain = context_.reference.domain();
  context_.login_host = CanonicalHost(credentials.server_address.empty() ? domain : credentials.server_address);
  if (context_.login) context_.secrets.Add(*context_.login);
  context_.store = TRY(CredentialStore::Load(options_.docker_config));
  std::vector<HostConfig> hosts = TRY(LoadHosts(options_.certs_dir, domain));
  for (HostConfig& config : hosts) {
    hosts_.push_back(std::make_unique<Host>(std::move(config), context_));
  }
  return {};
}

// All hosts that may be asked, in order; those that are down or gave wrong bytes only when no other is left.
std::vector<RepositoryImpl::Host*> RepositoryImpl::Candidates(Ask ask, const oci::Digest& blob) const {
  std::set<const HostClient*> rejected;
  {
    auto blobs = blobs_.Lock();
    if (auto found = blobs->find(blob); found != blobs->end()) rejected = found->second.rejected;
  }
  std::vector<Host*> up;
  std::vector<Host*> down;
  for (const std::unique_ptr<Host>& host : hosts_) {
    const HostConfig& config = host->client.config();
    if (!(ask == Ask::kTag ? config.resolve : config.pull) || rejected.contains(&host->client)) continue;
    (*host->down.Lock() ? down : up).push_back(host.get());
  }
  return up.empty() ? down : up;
}

// The state machine of README "Hosts and fallback". `done` (may be null) counts a blob's bytes: progress renews
// patience.
Result<RepositoryImpl::Host*> RepositoryImpl::OverHosts(const Ctx& ctx, Ask ask, const oci::Digest& blob,
                                                        const uint64_t* done, const AttemptFn& attempt) {
  std::vector<Host*> candidates = Candidates(ask, blob);
  if (candidates.empty()) {
    return Error(Code::kFailedPrecondition,
                 StrCat("no host of ", context_.reference.domain(), " has the capability to ",
                        ask == Ask::kTag ? "resolve tags" : "pull", " (hosts.toml)"));
  }
  std::map<Host*, Error> failures;  // the last of each host
  for (int round = 0;; ++round) {
    uint64_t before = done == nullptr ? 0 : *done;
    Round result = AskEach(candidates, attempt, failures);
    if (result.served != nullptr) return result.served;
    if (result.final) return std::move(*result.final);
    candidates = std::move(result.again);
    bool progress = done != nullptr && *done - before >= kProgressMin;
    if (progress) round = -1;
    if (candidates.empty() || result.authoritative || round + 1 >= options_.attempts_max) break;
    if (result.retry_after > options_.backoff_max) break;
    milliseconds wait = progress ? milliseconds(0) : Backoff(options_, round);
    TRY(Pause(ctx, std::max<milliseconds>(wait, result.retry_after)));
  }
  return Summary(failures);
}

// One round over `hosts`, until one serves.
RepositoryImpl::Round RepositoryImpl::AskEach(const std::vector<Host*>& hosts, const AttemptFn& attempt,
                                              std::map<Host*, Error>& failures) {
  Round out;
  for (Host* host : hosts) {
    bool last = host == hosts.back();
    Attempt result = attempt(host->client);
    if (result.verdict == Verdict::kOk) {
      out.served = host;
      return out;
    }
    if (result.verdict == Verdict::kFinal) {
      out.final = std::move(result.error);
      return out;
    }
    Code code = result.error->code();
    failures.insert_or_assign(host, std::move(*result.error));
    if (result.unreachable && hosts_.size() > 1) *host->down.Lock() = true;
    // A host without connection is not worth its connect timeout twice, but for the last, which is the registry itself.
    if (result.verdict == Verdict::kRetry && (last || !result.unreachable)) out.again.push_back(host);
    if (result.head.retry_after) out.retry_after = std::max(out.retry_after, *result.head.retry_after);
    out.authoritative = last && result.verdict == Verdict::kNextHost &&
                        (code == Code::kNotFound || code == Code::kUnauthenticated || code == Code::kPermissionDenied);
  }
  return out;
}

// The registry itself, the last in order, has the last word on what is there; the others' failures are told behind it.
Error RepositoryImpl::Summary(const std::map<Host*, Error>& failures) const {
  const Error* main = nullptr;
  std::string others;
  for (auto host = hosts_.rbegin(); host != hosts_.rend(); ++host) {
    auto found = failures.find(host->get());
    if (found == failures.end()) continue;
    if (main == nullptr) {
      main = &found->second;
    } else {
      others.insert(0, StrCat("; before that ", found->second.message()));
    }
  }
  return Error(main->code(), main->message() + others);
}

// The kubelet's prefix in front, and no secret in it.
Error RepositoryImpl::Finish(Error error) const {
  if (error.code() == Code::kUnavailable && !error.message().starts_with(kUnavailablePrefix)) {
    error = Error(Code::kUnavailable, StrCat(kUnavailablePrefix, error.message()));
  }
  return context_.secrets.Scrub(std::move(error));
}

Result<ManifestBytes> RepositoryImpl::GetManifest(const Ctx& ctx, const std::string& target, const oci::Digest& wanted,
                                                  const oci::Descriptor* descriptor) {
  ManifestBytes out;
  Result<Host*> host =
      OverHosts(ctx, wanted.empty() ? Ask::kTag : Ask::kDigest, wanted, nullptr, [&](HostClient& client) {
        BodyBuffer body(oci::kManifestBytesMax);
        HostRequest request{
            .path = StrCat("/manifests/", target), .headers = {AcceptHeader()}, .handler = body.Handler()};
        Attempt attempt = client.Do(ctx, request);
        NameHost(client, attempt);
        if (attempt.verdict != Verdict::kOk) return attempt;
        auto lie = [&](Error error) {
          attempt.verdict = Verdict::kNextHost;
          attempt.error = std::move(error).Context(StrCat(client.config().Base(), ": manifest ", target));
          return std::move(attempt);
        };
        oci::DigestAlgorithm algorithm = wanted.empty() ? oci::DigestAlgorithm::kSha256 : wanted.algorithm();
        out.content_type = attempt.head.Get("content-type");
        out.digest = oci::Digest::Of(body.bytes(), algorithm);
        if (!wanted.empty() && out.digest != wanted) return lie(RegistryLies("the bytes have another digest"));
        if (descriptor != nullptr && descriptor->size != body.bytes().size())
          return lie(RegistryLies("the size is another"));
        // For a tag the server's own word is all there is to compare with.
        Result<oci::Digest> said = oci::Digest::Parse(attempt.head.Get("docker-content-digest"));
        if (wanted.empty() && said && oci::Digest::Of(body.bytes(), said->algorithm()) != *said) {
          return lie(RegistryLies("the bytes are not of the digest that the header names"));
        }
        out.bytes = std::move(body.bytes());
        return attempt;
      });
  if (!host) return Finish(std::move(host).error());
  return out;
}

Result<ManifestBytes> RepositoryImpl::Resolve(const Ctx& ctx) {
  const oci::Reference& reference = context_.reference;
  return GetManifest(ctx, std::string(reference.Target()), reference.digest(), nullptr);
}

Result<ManifestBytes> RepositoryImpl::FetchManifest(const Ctx& ctx, const oci::Descriptor& descriptor) {
  if (descriptor.size > oci::kManifestBytesMax) {
    return Error(Code::kInvalidArgument,
                 StrCat("a manifest of ", descriptor.size, " bytes, at most ", oci::kManifestBytesMax));
  }
  return GetManifest(ctx, descriptor.digest.str(), descriptor.digest, &descriptor);
}

Result<oci::Descriptor> RepositoryImpl::Head(const Ctx& ctx) {
  const oci::Reference& reference = context_.reference;
  oci::Descriptor out;
  Ask ask = reference.has_digest() ? Ask::kDigest : Ask::kTag;
  Result<Host*> host = OverHosts(ctx, ask, {}, nullptr, [&](HostClient& client) {
    HostRequest request{
        .method = "HEAD", .path = StrCat("/manifests/", reference.Target()), .headers = {AcceptHeader()}};
    Attempt attempt = client.Do(ctx, request);
    out.media_type = attempt.head.Get("content-type");
    out.digest = oci::Digest::Parse(attempt.head.Get("docker-content-digest")).value_or(oci::Digest());
    out.size = ParseInt<uint64_t>(attempt.head.Get("content-length")).value_or(0);
    return attempt;
  });
  if (host && !out.digest.empty() && (!reference.has_digest() || out.digest == reference.digest())) return out;
  if (!host && host.error().code() != Code::kFailedPrecondition) return Finish(std::move(host).error());
  // A registry without HEAD, or without the digest's header.
  ManifestBytes manifest = TRY(Resolve(ctx));
  return oci::Descriptor{.media_type = manifest.content_type, .digest = manifest.digest, .size = manifest.bytes.size()};
}

Result<> RepositoryImpl::FetchBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t offset,
                                   const BlobSink& sink) {
  uint64_t begin = std::min(offset, descriptor.size);
  if (begin == descriptor.size && offset > 0) return {};
  // One blob at a time is split: layers side by side use several connections anyway, and memory stays bounded.
  bool may_split = options_.split.streams > 1 && !splitting_.exchange(true);
  SplitOptions split = options_.split;
  if (!may_split) split.streams = 1;
  BlobFetch fetch(ctx, descriptor, begin, sink, split);
  Result<Host*> host = OverHosts(ctx, Ask::kDigest, descriptor.digest, &fetch.done(), [&](HostClient& client) {
    uint64_t before = fetch.done();
    Attempt attempt = fetch.Try(client);
    if (fetch.done() > before) (*blobs_.Lock())[descriptor.digest].by.insert(&client);
    return attempt;
  });
  if (may_split) splitting_ = false;
  if (fetch.sink_error()) return std::move(*fetch.sink_error());
  if (!host) return Finish(std::move(host).error());
  return {};
}

bool RepositoryImpl::RejectBlob(const oci::Descriptor& descriptor) {
  {
    auto blobs = blobs_.Lock();
    Served& served = (*blobs)[descriptor.digest];
    served.rejected.insert(served.by.begin(), served.by.end());
    served.by.clear();
  }
  return !Candidates(Ask::kDigest, descriptor.digest).empty();
}

Result<std::string> RepositoryImpl::FetchSmallBlob(const Ctx& ctx, const oci::Descriptor& descriptor,
                                                   uint64_t bytes_max) {
  if (descriptor.size > bytes_max) {
    return Error(Code::kInvalidArgument,
                 StrCat("blob ", descriptor.digest.str(), " of ", descriptor.size, " bytes, at most ", bytes_max));
  }
  while (true) {
    std::string out;
    TRY(FetchBlob(ctx, descriptor, 0, [&](std::string_view bytes) {
      out += bytes;
      return Result<>();
    }));
    if (oci::Digest::Of(out, descriptor.digest.algorithm()) == descriptor.digest) return out;
    if (!RejectBlob(descriptor)) return RegistryLies(StrCat("blob ", descriptor.digest.str(), " has another digest"));
  }
}

}  // namespace

Result<std::unique_ptr<Repository>> Registry::Open(const oci::Reference& reference,
                                                   const Credentials& credentials) const {
  auto repository = std::make_unique<RepositoryImpl>(options_, reference);
  TRY(repository->Init(credentials));
  return std::unique_ptr<Repository>(std::move(repository));
}

}  // namespace crisp::image
