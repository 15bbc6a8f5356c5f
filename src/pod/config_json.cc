#include "pod/config_json.h"

#include "pod/config_fields.h"
#include "pod/json_fields.h"

namespace crisp::pod {

Json ToJson(const spec::SandboxConfig& config) { return WriteStruct(config); }
Json ToJson(const spec::ContainerConfig& config) { return WriteStruct(config); }
Json ToJson(const spec::Resources& resources) { return WriteStruct(resources); }

Result<spec::SandboxConfig> SandboxConfigFromJson(const Json& value) { return StructFromJson<spec::SandboxConfig>(value); }
Result<spec::ContainerConfig> ContainerConfigFromJson(const Json& value) {
  return StructFromJson<spec::ContainerConfig>(value);
}
Result<spec::Resources> ResourcesFromJson(const Json& value) { return StructFromJson<spec::Resources>(value); }

std::string CanonicalText(const spec::SandboxConfig& config) { return DumpJson(ToJson(config)); }
// Requests are compared by it, so without what is filled in for them when the container is created.
std::string CanonicalText(const spec::ContainerConfig& config) {
  spec::ContainerConfig asked = config;
  for (spec::Mount& mount : asked.mounts) mount.image_ref.clear();
  return DumpJson(ToJson(asked));
}

}  // namespace crisp::pod
