#include "base/ids.h"

#include <sys/random.h>

#include "base/check.h"
#include "base/strings.h"

namespace crisp {

std::string RandomHex(size_t bytes) {
  std::string raw(bytes, '\0');
  size_t have = 0;
  while (have < bytes) {
    ssize_t n = getrandom(raw.data() + have, bytes - have, 0);
    CHECK(n > 0);
    have += static_cast<size_t>(n);
  }
  return HexEncode(raw);
}

template <class Tag>
Result<HexId<Tag>> HexId<Tag>::Parse(std::string_view text) {
  bool ok = text.size() == 64;
  for (char c : text) ok = ok && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
  if (!ok) {
    return Error(Code::kInvalidArgument, StrCat(Tag::kName, " ", Quote(text, 80), " is not 64 hexadecimal digits"));
  }
  return HexId(std::string(text));
}

template <class Tag>
HexId<Tag> HexId<Tag>::Random() {
  return HexId(RandomHex(32));
}

template class HexId<PodTag>;
template class HexId<ContainerTag>;

}  // namespace crisp
