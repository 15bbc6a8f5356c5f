// From protobuf to our own types: once, at the edge, with every check that needs no other object (row S51 of the
// security matrix). Below this nobody sees protobuf. All errors are kInvalidArgument and name the field.
// Threading: pure.
#pragma once

#include "cri/v1/api.pb.h"

#include "base/result.h"
#include "image/types.h"
#include "pod/manager.h"
#include "spec/types.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

Result<spec::SandboxConfig> ToSandboxConfig(const v1::RunPodSandboxRequest& request);
Result<spec::ContainerConfig> ToContainerConfig(const v1::CreateContainerRequest& request);
Result<spec::Resources> ToResources(std::string_view field, const v1::LinuxContainerResources& resources);
// Filters of lists; all parts optional.
Result<pod::SandboxFilter> ToFilter(const v1::PodSandboxFilter& filter);
Result<pod::ContainerFilter> ToFilter(const v1::ContainerFilter& filter);
image::Credentials ToCredentials(const v1::AuthConfig& auth);

}  // namespace crisp::cri
