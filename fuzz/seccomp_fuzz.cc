// Seccomp profile files: a profile that the OCI runtimes understand, or an error.
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "oci/seccomp.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  crisp::oci::SeccompSubject subject{.capabilities = crisp::oci::DefaultCapabilities(), .arch = "amd64"};
  auto profile = crisp::oci::ParseSeccomp({reinterpret_cast<const char*>(data), size}, subject);
  // Never a profile that says nothing: the runtimes would take it for none.
  if (profile && (!profile->contains("defaultAction") || !(*profile)["defaultAction"].is_string())) std::abort();
  return 0;
}
