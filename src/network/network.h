// Network: a pod's network namespace and its attachment by CNI 1.1. The one entrance to this module.
//
// Life of an attachment: Setup takes a netns, which would still go with the process → records the intent (durable) → pins
// the netns → CNI ADD chain → records the result. Teardown runs CNI DEL for every recorded intent, with or without a
// result, then removes the netns and the record. A DEL that fails keeps the record; Retry (called periodically and at
// start) goes on until it succeeds. So an address can be leaked neither by a crash between any two steps nor by a failing
// plugin.
// CNI specification 1.1.0: https://www.cni.dev/docs/spec. Plugins named bridge, host-local, loopback, portmap are built
// in (options.builtin_plugins) and keep the same state on disk as the reference plugins; others are executed.
// Threading: any thread; calls for one pod are the caller's to serialise.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "base/ids.h"
#include "sys/fd.h"

namespace crisp::state {
class Database;
}

namespace crisp::network {

struct PortMapping {
  enum class Protocol { kTcp, kUdp, kSctp };
  Protocol protocol = Protocol::kTcp;
  int32_t container_port = 0;
  int32_t host_port = 0;
  std::string host_ip;  // "": all
};

struct PodNetworkRequest {
  PodId pod;
  std::string name, pod_namespace, uid;  // become CNI_ARGS K8S_POD_*
  std::vector<PortMapping> port_mappings;
  std::map<std::string, std::string> annotations;  // for bandwidth: kubernetes.io/{in,e}gress-bandwidth
  std::string cgroup_path;                          // given to plugins as capability cgroupPath
  std::vector<std::string> dns_servers, dns_searches, dns_options;  // capability dns
  // A new network namespace to be furnished instead of one of our own (one that the pod's user namespace owns); it need
  // live only until Setup returns.
  sys::BorrowedFd netns{-1};
  // Of the namespace, set before anybody sees it; namespaces are made ahead, so they should be the same for all pods.
  std::vector<std::pair<std::string, std::string>> sysctls;  // path below /proc/sys, value
  // Called as soon as the namespace is made and pinned at `netns_path`, before any plugin runs, so that what needs no more
  // than the namespace can be done meanwhile. Not called for a pod that has its network already. Must return at once.
  std::function<void(const std::string& netns_path)> on_netns;
};

struct PodNetwork {
  std::string netns_path;          // <netns_dir>/<name>, a bind mount of the namespace
  std::vector<std::string> ips;    // as text, no prefix length; first is the primary
  std::string result_json;         // the CNI result, for verbose status
  std::string primary_interface;   // "eth0"
};

struct NetworkOptions {
  std::string state_dir;                     // dies with the boot; CNI result cache in <state_dir>/cni
  std::string netns_dir;                     // where namespaces are pinned, e.g. <state_dir>/netns or /run/netns
  std::string conf_dir;                      // CNI conflists; watched by inotify
  std::vector<std::string> bin_dirs;
  bool builtin_plugins = true;
  // Used when conf_dir has no network: a conflist of our own, so that a node without CNI set-up still has pod networks
  // (`make try`). Empty: NetworkReady is false until a conflist appears.
  std::string fallback_conflist;
  std::chrono::milliseconds plugin_timeout{60'000};
};

struct NetworkStatus {
  bool ready = false;
  std::string reason;   // CRI condition reason, e.g. "NetworkPluginNotReady"
  std::string message;
  std::string conflist_name, conflist_file, conflist_json;  // what is in use
};

class Network {
 public:
  static Result<std::unique_ptr<Network>> Open(const NetworkOptions& options, state::Database& db);
  virtual ~Network() = default;

  // Idempotent per pod: a pod that has a recorded result gets it back. On error everything is undone or, if undoing
  // fails, kept for Retry.
  virtual Result<PodNetwork> Setup(const Ctx& ctx, const PodNetworkRequest& request) = 0;
  // What was recorded at Setup, for recovery; kNotFound.
  virtual Result<PodNetwork> Get(const PodId& pod) const = 0;
  // Idempotent; unknown pod: success. An error means that it will be tried again (pod stays NotReady until then).
  virtual Result<> Teardown(const Ctx& ctx, const PodId& pod) = 0;
  // Tears down every attachment whose pod is not `alive` (start-up and hourly sweep), netns pins without record included.
  // `alive` is asked after an attachment was found, so that a pod made meanwhile is never taken for dead; it returns at
  // once. Returns how many remain to be retried.
  virtual Result<int> KeepOnly(const Ctx& ctx, const std::function<bool(const PodId&)>& alive) = 0;
  // After a reboot no namespace exists: DEL for all with an empty CNI_NETNS, then forget them.
  virtual Result<> AfterReboot(const Ctx& ctx) = 0;

  virtual NetworkStatus Status() const = 0;
  // CRI UpdateRuntimeConfig: pod CIDR for the fallback conflist.
  virtual Result<> SetPodCidr(const std::string& cidr) = 0;
};

// A conflist of our own for a node without CNI set-up (NetworkOptions::fallback_conflist): bridge, host-local and
// portmap, CNI 1.0.0, named like the bridge. `subnets`: one or two prefixes separated by a comma, as "10.88.0.0/16" or
// "10.88.0.0/16,fd00:88::/64". `data_dir`: where addresses are kept, e.g. <state_dir>/ipam. kInvalidArgument for bad subnets.
Result<std::string> DefaultConflist(const std::string& bridge, const std::string& subnets, const std::string& data_dir);

}  // namespace crisp::network
