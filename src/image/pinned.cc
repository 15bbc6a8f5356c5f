#include "image/pinned.h"

#include <algorithm>

#include "oci/reference.h"

namespace crisp::image {

PinnedNames::PinnedNames(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    const bool ends = pattern.ends_with('*'), begins = pattern.starts_with('*');
    if (ends && begins && pattern.size() > 1) {
      parts_.push_back(pattern.substr(1, pattern.size() - 2));
    } else if (ends) {
      starts_.push_back(pattern.substr(0, pattern.size() - 1));
    } else if (auto name = oci::Reference::Parse(pattern)) {
      exact_.insert(name->has_digest() ? name->RepoDigest(name->digest()) : name->RepoTag());
    } else {
      exact_.insert(pattern);  // an image id
    }
  }
}

bool PinnedNames::HasId(std::string_view id) const { return exact_.contains(id); }

bool PinnedNames::Has(std::string_view name) const {
  return exact_.contains(name) ||
         std::ranges::any_of(starts_, [&](const std::string& start) { return name.starts_with(start); }) ||
         std::ranges::any_of(parts_, [&](const std::string& part) { return name.find(part) != name.npos; });
}

}  // namespace crisp::image
