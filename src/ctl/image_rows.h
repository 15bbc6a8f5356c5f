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

// "dangling=true" (no tags), "dangling=false", "reference=REGEX" (any of its names matches).
Result<std::vector<::runtime::v1::Image>> SelectImages(std::vector<::runtime::v1::Image> images,
                                                       const std::vector<std::string>& filters);

}  // namespace crisp::ctl
