// Which hosts serve a registry name: certs.d/<host>/hosts.toml, as containerd documents it (docs/hosts.md of
// containerd), and the defaults without one. Reads files only; the parser is pure.
// Threading: functions.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/registry_http.h"

namespace crisp::image {

struct HostConfig {
  std::string scheme = "https";
  std::string host;          // "mirror.example:5000"; the port only when written
  std::string path = "/v2";  // before the repository's name
  bool pull = true;          // serves manifests and blobs by digest
  bool resolve = true;       // may be asked what a tag is
  TlsOptions tls;
  std::vector<std::string> headers;  // "Name: value", for this host only; may be secret
  std::optional<std::chrono::milliseconds> dial_timeout;
  // The registry's own host, or what its own hosts.toml calls `server`: the credentials of a pull may go there.
  bool own = false;
  // A loopback registry that nothing was configured for: plain http, and TLS if it turns out to speak that.
  bool guess_tls = false;
  std::string Base() const;  // "https://mirror.example:5000/v2"
};

// The hosts for images of registry `domain` in the order they are to be tried; the last is the `server`.
// A missing directory or file gives the default host alone. kInvalidArgument names file and line.
Result<std::vector<HostConfig>> LoadHosts(const std::string& certs_dir, const std::string& domain);

// `path` is where `text` comes from: relative file names in it are relative to its directory. `for_all`: the file is
// _default/hosts.toml, whose `server` is a stranger to the registry's credentials.
Result<std::vector<HostConfig>> ParseHostsToml(std::string_view text, const std::string& path,
                                               const std::string& domain, bool for_all);
// The host that docker and containerd take for a domain: docker.io → https://registry-1.docker.io, loopback → http.
HostConfig DefaultHost(const std::string& domain);

}  // namespace crisp::image
