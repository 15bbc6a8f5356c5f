// The stream of container events: what a kubelet uses instead of listing again and again.
#include <thread>

#include "base/strings.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

class Events : public Spec {
 protected:
  void Subscribe() {
    auto stream = cri().Open("GetContainerEvents", Json::object());
    if (!stream) throw Failure(stream.error().message());
    stream_ = *std::move(stream);
    auto first = stream_->Next(std::chrono::milliseconds(300));  // an end or a refusal comes at once
    if (first) {
      early_.push_back(*first);
    } else if (first.error().code() != Code::kDeadlineExceeded && context().fault.empty()) {
      throw Unsupported(StrCat("the runtime offers no events: ", first.error().message()));
    }
  }
  // The next event that concerns `id`; others are passed over.
  Json Next(const std::string& id, const std::string& type) {
    auto until = std::chrono::steady_clock::now() + patience();
    while (true) {
      Json event;
      if (!early_.empty()) {
        event = early_.front();
        early_.erase(early_.begin());
      } else {
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        auto next = stream_->Next(std::max(left, std::chrono::milliseconds(1)));
        if (!next) throw Failure(StrCat("no ", type, " of ", id.substr(0, 13), ": ", next.error().message()));
        event = *next;
      }
      if (event["container_id"] != id) continue;
      if (event["container_event_type"] == type) return event;
      throw Failure(StrCat("wanted ", type, ", but ", event["container_event_type"].get<std::string>(), " came"));
    }
  }
  std::unique_ptr<Cri::Stream> stream_;
  std::vector<Json> early_;
};

#define EVENT_SPEC(name_, ...)                                                             \
  class Events_##name_ : public Events {                                                   \
   protected:                                                                              \
    void Body() override;                                                                  \
  };                                                                                       \
  static const bool registered_events_##name_ =                                            \
      internal::Register({"Events", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<Events_##name_>);          \
  void Events_##name_::Body()

EVENT_SPEC(ContainerLifeInOrder, .faults = {"GetContainerEvents:lose=CONTAINER_STARTED_EVENT",
                                            "GetContainerEvents:lose=CONTAINER_STOPPED_EVENT",
                                            "GetContainerEvents:lose=CONTAINER_DELETED_EVENT",
                                            "GetContainerEvents:lose", "GetContainerEvents:created_at=0"}) {
  Subscribe();
  Pod pod = RunPod();
  std::string id = Create(pod);
  EXPECT_GT(Next(id, "CONTAINER_CREATED_EVENT")["created_at"], 0);
  Start(id);
  EXPECT_GT(Next(id, "CONTAINER_STARTED_EVENT")["created_at"], 0);
  Stop(id);
  Next(id, "CONTAINER_STOPPED_EVENT");
  Remove(id);
  Next(id, "CONTAINER_DELETED_EVENT");
}
EVENT_SPEC(CarryTheStateAfterwards,
           .faults = {"GetContainerEvents:-containers_statuses", "GetContainerEvents:-pod_sandbox_status",
                      "GetContainerEvents:containers_statuses.*.exit_code=0"}) {
  Subscribe();
  Pod pod = RunPod();
  std::string id = Create(pod, {{"command", {"/bin/sh", "-c", "exit 9"}}});
  Next(id, "CONTAINER_CREATED_EVENT");
  Start(id);
  Next(id, "CONTAINER_STARTED_EVENT");
  Json event = Next(id, "CONTAINER_STOPPED_EVENT");
  EXPECT_EQ(event.at("pod_sandbox_status")["id"], pod.id);
  ASSERT_EQ(event["containers_statuses"].size(), 1u);
  EXPECT_EQ(event["containers_statuses"][0]["id"], id);
  EXPECT_EQ(event["containers_statuses"][0]["state"], "CONTAINER_EXITED");
  EXPECT_EQ(event["containers_statuses"][0]["exit_code"], 9);
}
EVENT_SPEC(PodLifeInOrder, .faults = {"GetContainerEvents:lose=CONTAINER_STOPPED_EVENT", "GetContainerEvents:lose"}) {
  Subscribe();
  Pod pod = RunPod();
  Next(pod.id, "CONTAINER_CREATED_EVENT");
  Next(pod.id, "CONTAINER_STARTED_EVENT");
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  Next(pod.id, "CONTAINER_STOPPED_EVENT");
  Call("RemovePodSandbox", {{"pod_sandbox_id", pod.id}});
  Next(pod.id, "CONTAINER_DELETED_EVENT");
}
EVENT_SPEC(TwoListenersHearTheSame, .faults = {"GetContainerEvents:lose"}) {
  Subscribe();
  auto other = cri().Open("GetContainerEvents", Json::object());
  ASSERT_TRUE(other);
  (void)(*other)->Next(std::chrono::milliseconds(100));
  std::string id = Run(RunPod());
  Next(id, "CONTAINER_CREATED_EVENT");
  bool heard = false;
  while (!heard) {
    auto event = (*other)->Next(patience());
    ASSERT_TRUE(event) << event.error().message();
    heard = (*event)["container_id"] == id;
  }
}
EVENT_SPEC(ComeSoon, .faults = {"GetContainerEvents:late=6000"}) {
  Subscribe();
  std::string id = Run(RunPod());
  Next(id, "CONTAINER_CREATED_EVENT");
  Next(id, "CONTAINER_STARTED_EVENT");
  Stop(id);
  auto stopped = std::chrono::steady_clock::now();
  Next(id, "CONTAINER_STOPPED_EVENT");
  EXPECT_LT(std::chrono::steady_clock::now() - stopped, std::chrono::seconds(5));
}

}  // namespace
}  // namespace crisp::conformance
