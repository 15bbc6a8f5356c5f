// The bytes that a shim or crisp-oci carries out: any bytes are a launch or an error, and what was read is written as
// what reads back the same.
#include <cstdint>
#include <cstdlib>

#include "native/launch.h"

using namespace crisp;

namespace {
template <class T>
void CheckRoundTrip(Result<T> launch, Result<T> (*decode)(std::string_view)) {
  if (!launch) return;
  Result<std::string> bytes = native::Encode(*launch);
  if (!bytes) return;  // longer than the limit once the head is worked out
  Result<T> again = decode(*bytes);
  if (!again || *native::Encode(*again) != *bytes) std::abort();
  if (!native::DecodeHead(*bytes)) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)native::DecodeHead(bytes).has_value();
  CheckRoundTrip(native::DecodeLaunch(bytes), native::DecodeLaunch);
  CheckRoundTrip(native::DecodeExecLaunch(bytes), native::DecodeExecLaunch);
  return 0;
}
