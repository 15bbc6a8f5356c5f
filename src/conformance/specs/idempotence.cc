// Calls that a kubelet repeats must not fail the second time.
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

const char kUnknown[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

SPEC(Idempotence, StopOfUnknownPod, .like = {129}, .faults = {"StopPodSandbox:fail=NOT_FOUND"}) {
  Call("StopPodSandbox", {{"pod_sandbox_id", kUnknown}});
}
SPEC(Idempotence, StopOfStoppedPod, .like = {130}, .faults = {"StopPodSandbox:fail", "StopPodSandbox:noop"}) {
  Pod pod = RunPod();
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  EXPECT_EQ(PodStatus(pod.id)["state"], "SANDBOX_NOTREADY");
}
SPEC(Idempotence, RemoveOfUnknownPod, .like = {131}, .faults = {"RemovePodSandbox:fail=NOT_FOUND"}) {
  Call("RemovePodSandbox", {{"pod_sandbox_id", kUnknown}});
}
SPEC(Idempotence, RemoveOfRemovedPod, .faults = {"RemovePodSandbox:noop"}) {
  Pod pod = RunPod();
  for (int i = 0; i < 2; ++i) Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  for (int i = 0; i < 2; ++i) Call("RemovePodSandbox", {{"pod_sandbox_id", pod.id}});
  MustFail("PodSandboxStatus", {{"pod_sandbox_id", pod.id}}, {Code::kNotFound});
}
SPEC(Idempotence, StopOfUnknownContainer, .like = {132}, .faults = {"StopContainer:fail=NOT_FOUND"}) { Stop(kUnknown); }
SPEC(Idempotence, StopOfStoppedContainer, .like = {133}, .faults = {"StopContainer:fail", "StopContainer:noop"}) {
  std::string id = Run(RunPod());
  Stop(id);
  Stop(id);
  EXPECT_EQ(Status(id)["state"], "CONTAINER_EXITED");
}
SPEC(Idempotence, RemoveOfUnknownContainer, .like = {134}, .faults = {"RemoveContainer:fail=NOT_FOUND"}) {
  Remove(kUnknown);
}
SPEC(Idempotence, RemoveOfUnknownImage, .like = {135}, .faults = {"RemoveImage:fail=NOT_FOUND"}) {
  Call("RemoveImage", {{"image", {{"image", ImageName("small", Unique("never-pulled-"))}}}});
}
SPEC(Idempotence, StatusOfUnknownThingsIsNotFound, .faults = {"ContainerStatus:swallow", "PodSandboxStatus:fail"}) {
  MustFail("ContainerStatus", {{"container_id", kUnknown}}, {Code::kNotFound});
  MustFail("PodSandboxStatus", {{"pod_sandbox_id", kUnknown}}, {Code::kNotFound});
}

}  // namespace
}  // namespace crisp::conformance
