#include "ctl/near.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::ctl {

namespace {

// Letters to add, take away, change or swap with the next until one text is the other; long texts are cut.
size_t Distance(std::string_view a, std::string_view b) {
  constexpr size_t kMost = 128;
  a = a.substr(0, kMost);
  b = b.substr(0, kMost);
  std::vector<size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, change});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before = row;
    row = next;
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> NearMisses(std::string_view text, const std::vector<std::string>& known, size_t most) {
  constexpr size_t kPartMin = 3;
  std::vector<std::pair<size_t, std::string>> found;
  for (const std::string& each : known) {
    size_t distance = Distance(text, each);
    bool part = text.size() >= kPartMin && each.find(text) != std::string::npos;
    bool near = distance <= std::max<size_t>(1, std::min(text.size(), each.size()) / 3);
    if (!each.empty() && (part || near)) found.emplace_back(distance, each);
  }
  std::ranges::sort(found);
  std::vector<std::string> names;
  for (const auto& [distance, name] : found) {
    if (names.size() < most && std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  return names;
}

std::string DidYouMean(const std::vector<std::string>& near) {
  std::string text;
  for (size_t i = 0; i < near.size(); ++i) {
    text += StrCat(i == 0 ? ", did you mean " : i + 1 == near.size() ? " or " : ", ", Quote(near[i]));
  }
  return text.empty() ? text : text + "?";
}

}  // namespace crisp::ctl
