#include "image/registry_hosts.h"

#include <dirent.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "base/strings.h"
#include "base/toml.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kHostsMax = 64;

// A place in the file, for errors.
struct Place {
  const std::string& path;
  Error Bad(const toml::node& node, std::string_view why) const {
    return Error(Code::kInvalidArgument, StrCat(path, ":", node.source().begin.line, ": ", why));
  }
};

std::string DirOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string InDir(const std::string& dir, const std::string& file) {
  return file.starts_with('/') ? file : StrCat(dir, "/", file);
}

// Go's time.ParseDuration for what people write: "3s", "500ms", "1m30s", "1.5h".
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    size_t digits = text.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos || digits > 15) return std::nullopt;
    char* end = nullptr;
    std::string number(text.substr(0, digits));
    double value = std::strtod(number.c_str(), &end);
    if (*end != '\0') return std::nullopt;
    text.remove_prefix(digits);
    size_t unit_end = text.find_first_of("0123456789.");
    std::string_view unit = text.substr(0, unit_end);
    double factor = unit == "ms" ? 1 : unit == "s" ? 1e3 : unit == "m" ? 6e4 : unit == "h" ? 3.6e6 : 0;
    if (factor == 0) return std::nullopt;
    total += value * factor;
    text.remove_prefix(unit.size());
  }
  if (total > 1e9) return std::nullopt;
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(total)));
}

Result<bool> Bool(const Place& place, const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return false;
  if (!node->is_boolean()) return place.Bad(*node, StrCat(key, " is not a boolean"));
  return node->as_boolean()->get();
}

// A text or a list of texts.
Result<std::vector<std::string>> Texts(const Place& place, const toml::node& node, std::string_view what) {
  std::vector<std::string> out;
  if (const auto* text = node.as_string()) {
    out.push_back(text->get());
    return out;
  }
  const toml::array* list = node.as_array();
  if (list == nullptr) return place.Bad(node, StrCat(what, " is neither a string nor a list of strings"));
  for (const toml::node& item : *list) {
    const auto* text = item.as_string();
    if (text == nullptr) return place.Bad(item, StrCat(what, " holds something that is not a string"));
    out.push_back(text->get());
  }
  return out;
}

Result<> ReadCapabilities(const Place& place, const toml::table& table, HostConfig& host) {
  const toml::node* node = table.get("capabilities");
  if (node == nullptr) return {};
  std::vector<std::string> names = TRY(Texts(place, *node, "capabilities"));
  if (names.empty()) return {};
  host.pull = host.resolve = false;
  for (std::string& name : names) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name == "pull") {
      host.pull = true;
    } else if (name == "resolve") {
      host.resolve = true;
    } else if (name != "push" && name != "referrers") {
      return place.Bad(*node, StrCat("unknown capability ", Quote(name)));
    }
  }
  return {};
}

// client = "pair.pem" | ["pair.pem", …] | [["cert.pem", "key.pem"], …]. libcurl holds one certificate: the first
// counts.
Result<> ReadClient(const Place& place, const toml::table& table, const std::string& dir, HostConfig& host) {
  const toml::node* node = table.get("client");
  if (node == nullptr) return {};
  const toml::node* first = node;
  if (const toml::array* list = node->as_array()) {
    if (list->empty()) return {};
    first = list->get(0);
  }
  std::vector<std::string> pair = TRY(Texts(place, *first, "client"));
  if (pair.empty() || pair.size() > 2 || pair[0].empty()) {
    return place.Bad(*first, "client is not a file or a pair of certificate and key");
  }
  host.tls.cert_file = InDir(dir, pair[0]);
  if (pair.size() == 2 && !pair[1].empty()) host.tls.key_file = InDir(dir, pair[1]);
  return {};
}

bool IsHeaderName(std::string_view name) {
  constexpr std::string_view kToken = "!#$%&'*+-.^_`|~";
  for (char c : name) {
    bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!alnum && kToken.find(c) == std::string_view::npos) return false;
  }
  return !name.empty();
}

Result<> ReadHeaders(const Place& place, const toml::table& table, HostConfig& host) {
  const toml::node* node = table.get("header");
  if (node == nullptr) return {};
  const toml::table* headers = node->as_table();
  if (headers == nullptr) return place.Bad(*node, "header is not a table");
  for (auto&& [key, value] : *headers) {
    std::string name(key.str());
    std::vector<std::string> texts = TRY(Texts(place, value, StrCat("header ", name)));
    for (const std::string& text : texts) {
      bool clean = text.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos;
      if (!IsHeaderName(name) || !clean) return place.Bad(value, StrCat("header ", Quote(name), " is malformed"));
      host.headers.push_back(StrCat(name, ": ", text));
    }
  }
  return {};
}

// "https://mirror.example/prefix" into scheme, host and path.
Result<> ReadUrl(const Place& place, const toml::node& at, std::string text, bool override_path, HostConfig& host) {
  if (!text.starts_with("http://") && !text.starts_with("https://")) text.insert(0, "https://");
  Result<UrlParts> url = ParseUrl(text);
  if (!url || text.find_first_of("?#@") != std::string::npos) {
    return place.Bad(at, "the host is not a plain http or https URL");
  }
  host.scheme = url->scheme;
  bool default_port = url->port == (url->scheme == "https" ? "443" : "80");
  host.host = default_port ? url->host : StrCat(url->host, ":", url->port);
  host.path = url->path;
  while (host.path.ends_with('/')) host.path.pop_back();
  if (!override_path && !host.path.ends_with("/v2")) host.path += "/v2";
  return {};
}

// What [host."…"] tables and the top of the file have in common.
Result<> ReadCommon(const Place& place, const toml::table& table, HostConfig& host) {
  std::string dir = DirOf(place.path);
  TRY(ReadCapabilities(place, table, host));
  if (const toml::node* node = table.get("ca")) {
    std::vector<std::string> files = TRY(Texts(place, *node, "ca"));
    for (const std::string& file : files) host.tls.ca_files.push_back(InDir(dir, file));
  }
  TRY(ReadClient(place, table, dir, host));
  TRY(ReadHeaders(place, table, host));
  host.tls.skip_verify = TRY(Bool(place, table, "skip_verify"));
  if (const toml::node* node = table.get("dial_timeout")) {
    const auto* text = node->as_string();
    host.dial_timeout = text == nullptr ? std::nullopt : ParseDuration(text->get());
    if (!host.dial_timeout) return place.Bad(*node, "dial_timeout is not a duration as \"3s\"");
  }
  return {};
}

Result<HostConfig> ReadMirror(const Place& place, const std::string& url, const toml::table& table) {
  HostConfig host;
  bool override_path = TRY(Bool(place, table, "override_path"));
  TRY(ReadUrl(place, table, url, override_path, host));
  TRY(ReadCommon(place, table, host));
  return host;
}

Result<HostConfig> ReadServer(const Place& place, const toml::table& root, const std::string& domain, bool for_all) {
  HostConfig fallback = DefaultHost(domain);
  HostConfig host = fallback;
  bool override_path = TRY(Bool(place, root, "override_path"));
  if (const toml::node* node = root.get("server")) {
    const auto* text = node->as_string();
    if (text == nullptr) return place.Bad(*node, "server is not a string");
    if (!text->get().empty()) {
      TRY(ReadUrl(place, *node, text->get(), override_path, host));
      host.guess_tls = false;
      host.own = !for_all || host.host == fallback.host;
    }
  }
  TRY(ReadCommon(place, root, host));
  return host;
}

// docker's layout: no hosts.toml, but *.crt (roots) and NAME.cert with NAME.key (client) in the directory.
Result<> ReadDockerCertificates(const std::string& dir, HostConfig& host) {
  std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(dir.c_str()), closedir);
  if (open == nullptr) return {};
  std::vector<std::string> names;
  while (const dirent* entry = readdir(open.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.ends_with(".crt")) host.tls.ca_files.push_back(InDir(dir, name));
    if (!name.ends_with(".cert") || !host.tls.cert_file.empty()) continue;
    std::string key = InDir(dir, name.substr(0, name.size() - 5) + ".key");
    if (!sys::Exists(key)) {
      return Error(Code::kInvalidArgument, StrCat(InDir(dir, name), ": the key ", key, " is missing"));
    }
    host.tls.cert_file = InDir(dir, name);
    host.tls.key_file = key;
  }
  return {};
}

// The directories that may be meant, first wins: host_port_, host:port, _default.
std::vector<std::string> Directories(const std::string& certs_dir, const std::string& domain) {
  std::vector<std::string> out;
  size_t colon = domain.rfind(':');
  if (colon != std::string::npos && domain.find(']', colon) == std::string::npos) {
    out.push_back(StrCat(certs_dir, "/", domain.substr(0, colon), "_", domain.substr(colon + 1), "_"));
  }
  out.push_back(StrCat(certs_dir, "/", domain));
  out.push_back(StrCat(certs_dir, "/_default"));
  return out;
}

}  // namespace

std::string HostConfig::Base() const { return StrCat(scheme, "://", host, path); }

HostConfig DefaultHost(const std::string& domain) {
  HostConfig out;
  out.host = domain == "docker.io" ? "registry-1.docker.io" : domain;
  out.own = true;
  if (IsLoopback(domain) && !domain.ends_with(":443")) {
    out.scheme = "http";
    out.guess_tls = true;
  }
  return out;
}

Result<std::vector<HostConfig>> ParseHostsToml(std::string_view text, const std::string& path,
                                               const std::string& domain, bool for_all) {
  Place place{path};
  toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    return Error(Code::kInvalidArgument,
                 StrCat(path, ":", parsed.error().source().begin.line, ": ", parsed.error().description()));
  }
  const toml::table& root = parsed.table();
  struct Mirror {
    toml::source_position at;
    HostConfig host;
  };
  std::vector<Mirror> mirrors;
  if (const toml::node* node = root.get("host")) {
    const toml::table* hosts = node->as_table();
    if (hosts == nullptr) return place.Bad(*node, "host is not a table");
    if (hosts->size() > kHostsMax) return place.Bad(*node, StrCat("more than ", kHostsMax, " hosts"));
    for (auto&& [key, value] : *hosts) {
      const toml::table* table = value.as_table();
      if (table == nullptr) return place.Bad(value, "host is not a table");
      HostConfig host = TRY(ReadMirror(place, std::string(key.str()), *table));
      mirrors.push_back({key.source().begin, std::move(host)});
    }
  }
  // toml++ sorts tables by key; the order that counts is the file's.
  std::sort(mirrors.begin(), mirrors.end(), [](const Mirror& a, const Mirror& b) { return a.at < b.at; });
  std::vector<HostConfig> out;
  HostConfig server = TRY(ReadServer(place, root, domain, for_all));
  for (Mirror& mirror : mirrors) {
    // A registry may be listed among its own mirrors, to give it a place in the order.
    HostConfig fallback = DefaultHost(domain);
    if (mirror.host.host == fallback.host) mirror.host.own = true;
    out.push_back(std::move(mirror.host));
  }
  // Our own key: `fallback = false` keeps pulls from the registry itself when all mirrors fail.
  bool fallback = root.get("fallback") == nullptr || TRY(Bool(place, root, "fallback"));
  if (fallback || out.empty()) out.push_back(std::move(server));
  return out;
}

Result<std::vector<HostConfig>> LoadHosts(const std::string& certs_dir, const std::string& domain) {
  if (certs_dir.empty()) return std::vector<HostConfig>{DefaultHost(domain)};
  std::vector<std::string> directories = Directories(certs_dir, domain);
  for (const std::string& dir : directories) {
    if (!sys::Exists(dir)) continue;
    std::string path = StrCat(dir, "/hosts.toml");
    if (sys::Exists(path)) {
      std::string text = TRY(sys::ReadFile(path, kFileBytesMax));
      return ParseHostsToml(text, path, domain, &dir == &directories.back());
    }
    HostConfig host = DefaultHost(domain);
    TRY(ReadDockerCertificates(dir, host));
    return std::vector<HostConfig>{host};
  }
  return std::vector<HostConfig>{DefaultHost(domain)};
}

}  // namespace crisp::image
