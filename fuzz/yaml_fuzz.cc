// Pod and container files. What was read must come back the same when it is written and read again.
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "cri/v1/api.pb.h"
#include "codec/yaml.h"
#include "ctl/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  ::runtime::v1::PodSandboxConfig pod;
  (void)crisp::ctl::ParseMessage(text, "pod.yaml", pod);
  auto value = crisp::codec::ParseYaml(text, "fuzz");
  if (!value) return 0;
  std::string rendered = crisp::codec::RenderYaml(*value);
  auto again = crisp::codec::ParseYaml(rendered, "rendered");
  if (!again || crisp::DumpJson(*again) != crisp::DumpJson(*value)) std::abort();
  return 0;
}
