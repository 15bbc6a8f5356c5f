// What takes the room of a node: images, containers' own files, logs. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cri/v1/api.pb.h"

namespace crisp::ctl {

struct DiskRow {
  std::string id, name;
  bool active = false;  // an image that a container is made of; a container that runs
  uint64_t bytes = 0;
  int uses = 0;  // of an image: by containers
};

struct DiskUse {
  std::vector<DiskRow> images, containers, logs;  // logs: one per container
};

// `log_bytes`: container id → bytes of its log files; without an entry it has none. Most room first.
DiskUse DiskUseOf(const std::vector<::runtime::v1::Image>& images,
                  const std::vector<::runtime::v1::Container>& containers,
                  const ::runtime::v1::ListContainerStatsResponse& stats,
                  const std::map<std::string, uint64_t>& log_bytes);

struct DiskSum {
  size_t total = 0, active = 0;
  uint64_t bytes = 0, reclaimable_bytes = 0;  // reclaimable: what is not active
};
DiskSum Sum(const std::vector<DiskRow>& rows);

nlohmann::json DiskJson(const DiskUse& use);

}  // namespace crisp::ctl
