// The formats of cgroup files. Pure; what does not parse is absent or left out.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "cgroup/usage.h"

namespace crisp::cgroup {

using Number = std::optional<uint64_t>;

// A file with one number. "max" is absent.
Number NumberOf(std::string_view text);
// The value after `key` in a file of "key value" lines.
Number ValueOf(std::string_view table, std::string_view key);
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same with "full".
std::optional<Pressure> ParsePressure(std::string_view text);
// io.stat of v2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …". At most kDevicesMax devices.
inline constexpr size_t kDevicesMax = 256;
std::vector<Details::DeviceIo> ParseIoStat(std::string_view text);
// blkio.throttle.io_service_bytes_recursive and io_serviced_recursive of v1: "8:0 Read 1".
std::vector<Details::DeviceIo> ParseBlkio(std::string_view service_bytes, std::string_view serviced);

}  // namespace crisp::cgroup
