#include "ctl/disk.h"

#include <algorithm>

#include "base/json.h"
#include "ctl/image_rows.h"

namespace crisp::ctl {

namespace cri = ::runtime::v1;

namespace {

void MostFirst(std::vector<DiskRow>& rows) {
  std::ranges::stable_sort(rows, [](const DiskRow& a, const DiskRow& b) { return a.bytes > b.bytes; });
}

Json RowsJson(const std::vector<DiskRow>& rows) {
  DiskSum sum = Sum(rows);
  Json list = Json::array();
  for (const DiskRow& row : rows) {
    list.push_back(Json{{"id", row.id}, {"name", row.name}, {"active", row.active}, {"bytes", row.bytes}});
  }
  return {{"total", sum.total},
          {"active", sum.active},
          {"bytes", sum.bytes},
          {"reclaimableBytes", sum.reclaimable_bytes},
          {"items", std::move(list)}};
}

}  // namespace

DiskUse DiskUseOf(const std::vector<cri::Image>& images, const std::vector<cri::Container>& containers,
                  const cri::ListContainerStatsResponse& stats, const std::map<std::string, uint64_t>& log_bytes) {
  DiskUse use;
  for (const auto& image : images) {
    DiskRow row{.id = image.id(), .name = "<none>", .bytes = image.size()};
    if (image.repo_digests_size() > 0) row.name = image.repo_digests(0);
    if (image.repo_tags_size() > 0) row.name = image.repo_tags(0);
    row.uses = static_cast<int>(
        std::ranges::count_if(containers, [&](const auto& container) { return IsUsed(image, {container}); }));
    row.active = row.uses > 0 || image.pinned();
    use.images.push_back(std::move(row));
  }
  std::map<std::string, uint64_t> layers;
  for (const auto& one : stats.stats()) layers[one.attributes().id()] = one.writable_layer().used_bytes().value();
  for (const auto& container : containers) {
    DiskRow row{.id = container.id(),
                .name = container.metadata().name(),
                .active = container.state() == cri::CONTAINER_RUNNING,
                .bytes = layers[container.id()]};
    use.containers.push_back(row);
    auto log = log_bytes.find(container.id());
    if (log == log_bytes.end()) continue;
    row.bytes = log->second;
    use.logs.push_back(std::move(row));
  }
  for (auto* rows : {&use.images, &use.containers, &use.logs}) MostFirst(*rows);
  return use;
}

DiskSum Sum(const std::vector<DiskRow>& rows) {
  DiskSum sum;
  for (const DiskRow& row : rows) {
    ++sum.total;
    sum.active += row.active;
    sum.bytes += row.bytes;
    if (!row.active) sum.reclaimable_bytes += row.bytes;
  }
  return sum;
}

Json DiskJson(const DiskUse& use) {
  return {{"images", RowsJson(use.images)}, {"containers", RowsJson(use.containers)}, {"logs", RowsJson(use.logs)}};
}

}  // namespace crisp::ctl
