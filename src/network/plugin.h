// One call of a CNI plugin as a value, for built-in and executed plugins alike.
#pragma once

#include <string>
#include <string_view>

#include "network/cni_conf.h"
#include "network/cni_result.h"
#include "sys/netns.h"

namespace crisp::network {

enum class Verb { kAdd, kDel, kCheck, kStatus, kGc, kVersion };
std::string_view VerbName(Verb verb);  // "ADD"

// A container's connection to a network: what the CNI_… variables say.
struct Attachment {
  std::string container_id;
  std::string netns;     // path, or "" when the namespace is gone
  std::string ifname;
  std::string args;      // CNI_ARGS
  Json capability_args = Json::object();  // by capability: what "runtimeConfig" is made from
  // The host's end of a veth pair that was made ahead, with the namespace; "": the attachment makes its own.
  std::string host_link;
};

struct PluginCall {
  const NetworkConf& network;
  const PluginConf& plugin;
  const Attachment* attachment = nullptr;   // none for STATUS, GC and VERSION
  const CniResult* previous = nullptr;      // prevResult
  Json valid_attachments = nullptr;         // GC only

  // For built-in plugins, which may use what we hold anyway. The namespace and a socket inside it:
  sys::NewNetns* netns = nullptr;
  // DEL: the namespace goes away right after, so its links need no deleting one by one (10-28 ms each).
  bool netns_dies = false;
  // ADD: the alias that marks links as made by us, so that we may remove them when nobody needs them any more; "": none.
  std::string link_alias;
  // ADD: nothing can be left of an earlier attachment with this id.
  bool fresh_id = false;
};

// What the plugin gets on stdin.
Result<Json> PluginStdin(const PluginCall& call);
// `plugin "bridge" of network "pods"`, for errors.
std::string PluginText(const PluginCall& call);

}  // namespace crisp::network
