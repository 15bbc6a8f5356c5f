// What plugins want, as it comes over the wire: collected, and put into a configuration that stays one.
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "nri/adjust.h"
#include "nri/collector.h"
#include "nri/convert.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp;
  nri::v1::CreateContainerResponse response;
  if (!response.ParseFromArray(data, static_cast<int>(size))) return 0;
  nri::v1::Container container;
  container.set_id("c1");
  nri::Collector collector = nri::Collector::ForCreate(container);
  if (!collector.Adjust(response.adjust(), "10-a")) return 0;
  (void)collector.Update(response.update(), "10-a");
  (void)collector.Adjust(response.adjust(), "20-b");
  for (const nri::v1::ContainerUpdate& update : collector.updates())
    (void)nri::ResourcesToOci(update.linux().resources());
  Result<std::string> config = nri::ApplyAdjustment(
      R"({"process":{"env":["A=1"]},"linux":{},"mounts":[{"destination":"/a/b"}]})", collector.adjustment());
  if (config && !ParseJson(*config, "config")) std::abort();
  if (config) (void)nri::ToNri(pod::ContainerStatus(), *config);
  return 0;
}
