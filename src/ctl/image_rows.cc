#include "ctl/image_rows.h"

#include <algorithm>
#include <regex>
#include <tuple>

#include "base/strings.h"

namespace crisp::ctl {

namespace {

using ::runtime::v1::Image;

// "host:5000/a/b:tag" → repository, tag. The colon of a port stands before the last slash.
std::pair<std::string, std::string> SplitTag(const std::string& name) {
  size_t colon = name.rfind(':');
  size_t slash = name.rfind('/');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash)) return {name, "<none>"};
  return {name.substr(0, colon), name.substr(colon + 1)};
}

std::pair<std::string, std::string> SplitDigest(const std::string& name) {
  size_t at = name.find('@');
  if (at == std::string::npos) return {name, "<none>"};
  return {name.substr(0, at), name.substr(at + 1)};
}

std::string DigestOf(const Image& image, const std::string& repository) {
  for (const std::string& name : image.repo_digests()) {
    auto [repo, digest] = SplitDigest(name);
    if (repo == repository) return digest;
  }
  return "<none>";
}

Result<bool> Matches(const Image& image, const std::string& filter) {
  size_t equals = filter.find('=');
  std::string key = filter.substr(0, equals);
  std::string value = equals == std::string::npos ? "" : filter.substr(equals + 1);
  if (key == "dangling" && (value == "true" || value == "false")) return image.repo_tags().empty() == (value == "true");
  if (key == "reference" && !value.empty()) {
    try {
      std::regex regex(value);
      auto matches = [&](const std::string& name) { return std::regex_search(name, regex); };
      return std::any_of(image.repo_tags().begin(), image.repo_tags().end(), matches) ||
             std::any_of(image.repo_digests().begin(), image.repo_digests().end(), matches);
    } catch (const std::regex_error&) {
      return Error(Code::kInvalidArgument, StrCat("no regular expression: ", Quote(value)));
    }
  }
  return Error(Code::kInvalidArgument, StrCat("unknown filter ", Quote(filter),
                                              " (dangling=true|false, reference=REGEX; CRI tells no creation times)"));
}

}  // namespace

std::vector<ImageRow> ImageRows(const std::vector<Image>& images) {
  std::vector<ImageRow> rows;
  for (const Image& image : images) {
    for (const std::string& name : image.repo_tags()) {
      auto [repository, tag] = SplitTag(name);
      rows.push_back({repository, tag, DigestOf(image, repository), &image});
    }
    if (!image.repo_tags().empty()) continue;
    ImageRow row{"<none>", "<none>", "<none>", &image};
    if (!image.repo_digests().empty()) std::tie(row.repository, row.digest) = SplitDigest(image.repo_digests(0));
    rows.push_back(row);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const ImageRow& a, const ImageRow& b) {
    return std::tie(a.repository, a.tag) < std::tie(b.repository, b.tag);
  });
  return rows;
}

Result<std::vector<Image>> SelectImages(std::vector<Image> images, const std::vector<std::string>& filters) {
  std::vector<Image> selected;
  for (Image& image : images) {
    bool keep = true;
    for (const std::string& filter : filters) keep = TRY(Matches(image, filter)) && keep;
    if (keep) selected.push_back(std::move(image));
  }
  return selected;
}

}  // namespace crisp::ctl
