#include "conformance/context.h"

namespace crisp::conformance {

// One list of the fields for both ways.
#define FIELDS(f)                                                                                                      \
  f(runtime_endpoint) f(image_endpoint) f(runtime_handler) f(nri_socket) f(registry_host) f(registry_prefix) f(images) \
      f(digests) f(cgroup_parent) f(restart_command) f(cdi_dir) f(fault) f(transport) f(work_dir)                      \
          f(runtime_timeout_ms) f(image_timeout_ms) f(patience_ms)

Json Context::ToJson() const {
  Json json = Json::object();
#define WRITE(field) json[#field] = field;
  FIELDS(WRITE)
#undef WRITE
  return json;
}

Context Context::FromJson(const Json& json) {
  Context context;
#define READ(field) \
  if (json.contains(#field)) context.field = json[#field].get<decltype(context.field)>();
  FIELDS(READ)
#undef READ
  return context;
}

}  // namespace crisp::conformance
