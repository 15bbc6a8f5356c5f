// CNI network configurations: parsing and checking (pure), and the choice of one in the configuration directory.
// https://www.cni.dev/docs/spec/#section-1-network-configuration-format
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/synchronized.h"
#include "network/network.h"
#include "sys/fd.h"

namespace crisp::network {

constexpr size_t kConfBytesMax = 1u << 20;

struct PluginConf {
  std::string type;                        // a plain file name
  Json conf;                               // the object as it stands in the list
  std::vector<std::string> capabilities;   // those declared true
};

struct NetworkConf {
  std::string name, cni_version;
  bool disable_check = false, disable_gc = false;
  std::vector<PluginConf> plugins;  // at least one
  std::string file;                 // "" when it is not from a file
  std::string text;                 // the whole list as JSON; ParseNetworkConf(text) gives the same again
};

// A list ("plugins") or the configuration of one plugin. `what` names it in errors. Rejects plugin types and names
// that could name a path (CVE-2021-20206), and versions we do not speak.
Result<NetworkConf> ParseNetworkConf(std::string_view text, std::string_view what);

// One file of a configuration directory: a regular file (a symlink may lead to one) of at most 1 MiB. Without
// "loadOnlyInlinedPlugins" the plugins of <dir>/<name>/*.conf are appended, as specification 1.1 says.
Result<NetworkConf> LoadNetworkConf(const std::string& path);

// The configuration in use: the first valid *.conflist, *.conf or *.json of the directory by name, else the fallback.
// Changes are noticed by inotify when somebody asks: no thread, and a file still being written is read again once it
// is closed. Threading: any thread.
class ConfDir {
 public:
  struct Loaded {
    std::optional<NetworkConf> conf;
    std::string problem;  // why there is none, or what was passed over
  };
  // `fallback`: a conflist as text, or "".
  ConfDir(std::string dir, std::string fallback);
  std::shared_ptr<const Loaded> Current() const;
  void SetFallback(std::string fallback);

 private:
  struct State {
    sys::UniqueFd inotify;
    bool watching = false;
    std::string fallback;
    std::shared_ptr<const Loaded> loaded;
  };
  bool Changed(State& state) const;
  std::shared_ptr<const Loaded> Load(const std::string& fallback) const;

  const std::string dir_;
  Synchronized<State> state_;
};

}  // namespace crisp::network
