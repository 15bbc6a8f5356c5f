// Objects as lines "What: value", as crictl prints them for -v and for `inspect… -o table`. Pure; any thread. Control
// characters are shown as '?'.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "cri/v1/api.pb.h"

namespace crisp::ctl {

// In lists; the caller adds the empty line that separates them.
std::string DescribePod(const ::runtime::v1::PodSandbox& pod);
std::string DescribeContainer(const ::runtime::v1::Container& container, const ::runtime::v1::PodSandboxMetadata& pod,
                              int64_t now_unix_nanos);
std::string DescribeImage(const ::runtime::v1::Image& image);

// Of the inspect commands; DescribeInfo is what the runtime adds to a verbose status.
std::string DescribePodStatus(const ::runtime::v1::PodSandboxStatus& status);
std::string DescribeContainerStatus(const ::runtime::v1::ContainerStatus& status, int64_t now_unix_nanos);
std::string DescribeImageStatus(const ::runtime::v1::Image& image);
std::string DescribeInfo(const std::map<std::string, std::string>& info);

using Filesystems = google::protobuf::RepeatedPtrField<::runtime::v1::FilesystemUsage>;
// `kind`: "Image" or "Container".
std::string DescribeFilesystems(const std::string& kind, const Filesystems& filesystems);

}  // namespace crisp::ctl
