// Which images `images.pinned` names. Pure; any thread.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace crisp::image {

// A pattern is the whole of a name ("busybox", normalised; an image id), the beginning of names ("quay.io/team/*"), or a
// part of them ("*pause*"): what CRI-O's pinned_images has.
class PinnedNames {
 public:
  explicit PinnedNames(const std::vector<std::string>& patterns);
  bool HasId(std::string_view id) const;  // a whole one: a pattern is of names
  bool Has(std::string_view name) const;  // a normalised name or an id

 private:
  std::set<std::string, std::less<>> exact_;
  std::vector<std::string> starts_, parts_;
};

}  // namespace crisp::image
