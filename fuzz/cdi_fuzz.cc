// CDI files and names of devices. What parses must go into a container's configuration without harm to its form.
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "cdi/inject.h"
#include "cdi/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (Result<cdi::DeviceName> name = cdi::ParseDeviceName(text)) {
    if (name->kind + "=" + name->name != text) std::abort();
  }
  for (cdi::Syntax syntax : {cdi::Syntax::kJson, cdi::Syntax::kYaml}) {
    Result<cdi::Spec> spec = cdi::ParseSpec(text, syntax, "fuzz");
    if (!spec) continue;
    for (const auto& [name, edits] : spec->devices) {
      if (!cdi::ParseDeviceName(spec->kind + "=" + name)) std::abort();
      Result<std::string> config = cdi::Inject(R"({"process":{},"linux":{}})", {spec->edits, edits});
      if (config && !ParseJson(*config, "config")) std::abort();
    }
  }
  return 0;
}
