// Names and numbers of the NRI protocol, version 0.12 (github.com/containerd/nri). The messages are in
// api/nri/v1/nri.proto, the bytes in codec/ttrpc.h and codec/nri_mux.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nri/v1/nri.pb.h"

namespace crisp::nri {

inline constexpr char kVersion[] = "v0.12.0";
inline constexpr char kPluginService[] = "nri.pkg.api.v1alpha1.Plugin";
inline constexpr char kRuntimeService[] = "nri.pkg.api.v1alpha1.Runtime";
// Connections in the multiplexed one: calls to the plugin, calls from it.
inline constexpr uint32_t kPluginConnection = 1;
inline constexpr uint32_t kRuntimeConnection = 2;
// What a plugin that we start finds in its environment; its socket is descriptor 3.
inline constexpr char kNameVariable[] = "NRI_PLUGIN_NAME";
inline constexpr char kIndexVariable[] = "NRI_PLUGIN_IDX";
inline constexpr char kSocketVariable[] = "NRI_PLUGIN_SOCKET";

inline constexpr uint32_t EventBit(v1::Event event) { return 1u << (event - 1); }
inline constexpr uint32_t kAllEvents = EventBit(v1::EVENT_LAST) - 1;

// "10-name": two digits and a name.
struct PluginName {
  std::string index, base;
};
std::optional<PluginName> ParsePluginName(std::string_view name);
bool IsPluginIndex(std::string_view index);

// A key (of an annotation, a mount, …) that begins with "-" asks for removal of what follows.
inline bool IsRemoval(std::string_view key) { return key.starts_with("-"); }
inline std::string WithoutMark(std::string_view key) { return std::string(IsRemoval(key) ? key.substr(1) : key); }

}  // namespace crisp::nri
