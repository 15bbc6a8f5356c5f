// USER, /etc/passwd and /etc/group of an image, separated by NULs.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/strings.h"
#include "rootfs/user.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parts = crisp::Split({reinterpret_cast<const char*>(data), size}, '\0');
  parts.resize(3);
  auto user = crisp::rootfs::ResolveUserIn(parts[1], parts[2], {.image_user = std::string(parts[0])});
  if (!user) return 0;
  // What may never come out, whatever goes in.
  if (user->uid > 0x7fffffff || user->gid > 0x7fffffff) std::abort();
  if (user->home.empty() || user->home[0] != '/' || user->home.find_first_of(":\n") != std::string::npos) std::abort();
  const auto& gids = user->additional_gids;
  if (std::find(gids.begin(), gids.end(), user->gid) == gids.end()) std::abort();
  return 0;
}
