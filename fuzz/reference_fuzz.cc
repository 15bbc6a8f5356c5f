// What parses as an image reference, parses again from its own canonical text to the same reference.
#include <cstdint>
#include <cstdlib>

#include "oci/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto reference = crisp::oci::Reference::Parse({reinterpret_cast<const char*>(data), size});
  if (!reference) return 0;
  auto again = crisp::oci::Reference::Parse(reference->str());
  auto familiar = crisp::oci::Reference::Parse(reference->Familiar());
  if (!familiar || familiar->str() != reference->str()) std::abort();
  if (!again || again->str() != reference->str()) std::abort();
  return 0;
}
