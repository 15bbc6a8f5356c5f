// From our own types back to protobuf. Threading: pure.
#pragma once

#include "cri/v1/api.pb.h"

#include "image/types.h"
#include "pod/manager.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

v1::PodSandboxStatus SandboxStatusToCri(const pod::SandboxStatus& sandbox);
v1::PodSandbox SandboxToCri(const pod::SandboxStatus& sandbox);
v1::ContainerStatus ContainerStatusToCri(const pod::ContainerStatus& container);
v1::Container ContainerToCri(const pod::ContainerStatus& container);
v1::ContainerEventResponse EventToCri(const pod::ObjectEvent& event);
// `handler`: the runtime handler that it was pulled for; "": none in particular.
v1::Image ImageToCri(const image::Image& image, const std::string& handler = {});
v1::FilesystemUsage UsageToCri(const image::FsUsage& usage, int64_t measured_at);

}  // namespace crisp::cri
