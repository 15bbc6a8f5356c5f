// Images as lines of a table, and the filters of `images -f`. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cri/v1/api.pb.h"

namespace crisp::ctl {

struct ImageRow {
  std::string repository, tag, digest;  // "<none>" where there is none
  const ::runtime::v1::Image* image = nullptr;
};
// One row per tag; an image without tags has one row. Sorted by repository and tag. Rows point into `images`.
std::vector<ImageRow> ImageRows(const std::vector<::runtime::v1::Image>& images);

// In crictl's order: by the first name.
void SortImages(std::vector<::runtime::v1::Image>& images);
// "dangling=true" (no tags), "dangling=false", "reference=REGEX" (any of its names matches), "before=IMAGE" and
// "since=IMAGE" (NAME:TAG, NAME@DIGEST or the beginning of an id): what stands behind and in front of that image in a
// sorted list, as in crictl; CRI's lists tell no time of creation.
Result<std::vector<::runtime::v1::Image>> SelectImages(std::vector<::runtime::v1::Image> images,
                                                       const std::vector<std::string>& filters);

// One of the containers was made of it, by whatever name.
bool IsUsed(const ::runtime::v1::Image& image, const std::vector<::runtime::v1::Container>& containers);

}  // namespace crisp::ctl
