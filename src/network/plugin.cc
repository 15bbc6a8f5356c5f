#include "network/plugin.h"

#include "base/strings.h"

namespace crisp::network {

std::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kAdd: return "ADD";
    case Verb::kDel: return "DEL";
    case Verb::kCheck: return "CHECK";
    case Verb::kStatus: return "STATUS";
    case Verb::kGc: return "GC";
    case Verb::kVersion: return "VERSION";
  }
  return "";
}

Result<Json> PluginStdin(const PluginCall& call) {
  Json conf = call.plugin.conf;
  conf["name"] = call.network.name;
  conf["cniVersion"] = call.network.cni_version;
  if (call.attachment != nullptr) {
    Json runtime = Json::object();
    for (const std::string& capability : call.plugin.capabilities) {
      auto given = call.attachment->capability_args.find(capability);
      if (given != call.attachment->capability_args.end()) runtime[capability] = *given;
    }
    if (!runtime.empty()) conf["runtimeConfig"] = std::move(runtime);
  }
  if (call.previous != nullptr) conf["prevResult"] = TRY(CniResultJson(*call.previous, call.network.cni_version));
  if (!call.valid_attachments.is_null()) conf["cni.dev/valid-attachments"] = call.valid_attachments;
  return conf;
}

std::string PluginText(const PluginCall& call) {
  return StrCat("plugin ", Quote(call.plugin.type), " of network ", Quote(call.network.name));
}

}  // namespace crisp::network
