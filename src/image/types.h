// What the image module hands out. Values; no ownership subtleties.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oci/manifest.h"

namespace crisp::image {

// The part of an OCI image config (image-spec config.md) that a container inherits.
struct ImageConfig {
  std::string user;  // as written: "1000", "1000:100", "name", "name:group", ""
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::vector<std::string> volumes;
  std::string stop_signal;
  std::map<std::string, std::string> labels;
};

// One unpacked image. Immutable snapshot: a later tag or removal makes a new one.
struct Image {
  std::string id;                         // "sha256:<64 hex>": digest of the image config
  std::vector<std::string> repo_tags;     // "docker.io/library/busybox:latest", sorted
  std::vector<std::string> repo_digests;  // "docker.io/library/busybox@sha256:…", sorted
  uint64_t size_bytes = 0;                // compressed layers + config, as containerd reports it
  ImageConfig config;
  std::vector<std::string> diff_ids;      // bottom layer first
  std::vector<oci::HistoryEntry> history; // how it was built, oldest step first; often empty
  std::vector<std::string> layer_dirs;    // absolute directories for overlay lowerdir, bottom layer first
  std::string platform;                   // "linux/amd64"
  bool pinned = false;
  std::vector<std::string> runtime_handlers;  // for which it was pulled, sorted; "": for none in particular
  // Of an OCI artifact, which has files to be mounted but nothing to run; "" for a container image.
  std::string artifact_type;
  bool IsArtifact() const { return !artifact_type.empty(); }
  int64_t created_unix_nanos = 0;
  std::string checkpoint_of;  // the image is a checkpoint of a container with this name; "": an ordinary image
};
using ImageRef = std::shared_ptr<const Image>;

// AuthConfig of CRI. Never logged, never put into an error message.
struct Credentials {
  std::string username;
  std::string password;
  std::string auth;            // base64(username:password)
  std::string server_address;  // when set, the credentials go to this host only
  std::string identity_token;  // OAuth2 refresh token
  std::string registry_token;  // used as the bearer token as it is
  bool empty() const { return username.empty() && auth.empty() && identity_token.empty() && registry_token.empty(); }
};

// How far a pull is; all counters only grow.
struct PullProgress {
  std::string layer;  // digest
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // 0: unknown
  enum class Phase { kWaiting, kFetching, kDone } phase = Phase::kWaiting;
};

struct FsUsage {
  std::string mountpoint;  // an existing directory
  uint64_t used_bytes = 0;
  uint64_t inodes_used = 0;
};

}  // namespace crisp::image
