#include "ctl/image_rows.h"

#include <algorithm>
#include <optional>
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
                                              " (dangling=true|false, reference=REGEX, before=IMAGE, since=IMAGE)"));
}

bool IsNamed(const Image& image, const std::string& name) {
  bool tag = name.find(':') != std::string::npos, digest = name.find('@') != std::string::npos;
  if (digest) return image.repo_digests_size() > 0 && image.repo_digests(0).starts_with(name);
  if (tag) return image.repo_tags_size() > 0 && image.repo_tags(0) == name;
  return image.id().starts_with(name) || image.id().starts_with("sha256:" + name);
}

// All of `images` when none has that name, as crictl does.
std::vector<Image> UpTo(const std::vector<Image>& images, const std::string& name) {
  auto end = std::find_if(images.begin(), images.end(), [&](const Image& image) { return IsNamed(image, name); });
  return {images.begin(), end};
}

// "before=IMAGE" and "since=IMAGE"; nullopt: another filter.
std::optional<std::vector<Image>> ByPlace(std::vector<Image>& images, const std::string& filter) {
  if (filter.starts_with("since=")) return UpTo(images, filter.substr(6));
  if (!filter.starts_with("before=")) return std::nullopt;
  std::reverse(images.begin(), images.end());
  std::vector<Image> behind = UpTo(images, filter.substr(7));
  std::reverse(behind.begin(), behind.end());
  return behind;
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

void SortImages(std::vector<Image>& images) {
  std::stable_sort(images.begin(), images.end(), [](const Image& a, const Image& b) {
    if (a.repo_tags_size() > 0 && b.repo_tags_size() > 0) return a.repo_tags(0) < b.repo_tags(0);
    if (a.repo_digests_size() > 0 && b.repo_digests_size() > 0) return a.repo_digests(0) < b.repo_digests(0);
    return a.id() < b.id();
  });
}

Result<std::vector<Image>> SelectImages(std::vector<Image> images, const std::vector<std::string>& filters) {
  for (const std::string& filter : filters) {
    if (auto placed = ByPlace(images, filter)) {
      images = *std::move(placed);
      continue;
    }
    std::vector<Image> selected;
    for (Image& image : images) {
      if (TRY(Matches(image, filter))) selected.push_back(std::move(image));
    }
    images = std::move(selected);
  }
  return images;
}

bool IsUsed(const ::runtime::v1::Image& image, const std::vector<::runtime::v1::Container>& containers) {
  auto is_name = [&](const std::string& name) {
    return name == image.id() || std::ranges::find(image.repo_tags(), name) != image.repo_tags().end() ||
           std::ranges::find(image.repo_digests(), name) != image.repo_digests().end();
  };
  return std::ranges::any_of(containers, [&](const auto& container) {
    return is_name(container.image_ref()) || is_name(container.image_id()) || is_name(container.image().image());
  });
}

}  // namespace crisp::ctl
