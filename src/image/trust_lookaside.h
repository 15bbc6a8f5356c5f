// Where GPG signatures of images are kept: containers-registries.d(5), and "lookaside" servers and directories.
// A signature of an image is BASE/REPOSITORY@sha256=HEX/signature-N, N from 1 on until one is missing; the repository
// without its host.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "image/registry_http.h"
#include "oci/reference.h"

namespace crisp::image {

struct LookasideConfig {
  std::string fallback;                       // of "default-docker"; empty: none
  std::map<std::string, std::string> scopes;  // of "docker": scope (ScopesOf) → base
};

// Adds one file of registries.d. Members that only concern writing are ignored. kInvalidArgument names file and place:
// no YAML, a wrong type, a base that is no file, http or https URL, or a scope that another file has given already.
Result<> AddRegistriesFile(LookasideConfig& config, std::string_view text, std::string_view path);
// All files *.yaml of `dir`; a missing directory is an empty one.
Result<LookasideConfig> LoadLookaside(const std::string& dir);
// The base URL for `reference`. Without any: file:///var/lib/containers/sigstore, as for root's podman.
std::string LookasideBase(const LookasideConfig& config, const oci::Reference& reference);

// Fetches signatures. Threading: any thread.
class LookasideClient {
 public:
  LookasideClient() : pool_({}) {}
  // All signatures of `manifest`; none is no error. kUnavailable "RegistryUnavailable: …": not to be had now.
  Result<std::vector<std::string>> Fetch(const Ctx& ctx, const std::string& base, const oci::Reference& reference,
                                         const oci::Digest& manifest);

 private:
  Result<std::string> FetchOne(const Ctx& ctx, std::string url);
  HttpPool pool_;
};

}  // namespace crisp::image
