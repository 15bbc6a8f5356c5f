#include "ctl/select.h"

#include <gmock/gmock.h>

namespace crisp::ctl {
namespace {

cri::ListContainersResponse Containers() {
  cri::ListContainersResponse list;
  int64_t created = 0;
  for (auto [id, name, pod] : {std::tuple{"aaa", "web", "p1"}, {"aab", "db", "p1"}, {"bbb", "web-2", "p2"}}) {
    auto* c = list.add_containers();
    c->set_id(id);
    c->mutable_metadata()->set_name(name);
    c->set_pod_sandbox_id(pod);
    c->set_created_at(++created);
    c->mutable_image()->set_image("docker.io/library/busybox:1");
  }
  return list;
}

std::vector<std::string> Names(const ListFilter& filter) {
  auto selected = SelectContainers(Containers(), filter, {{"p1", "default"}, {"p2", "kube-system"}});
  EXPECT_TRUE(selected);
  std::vector<std::string> names;
  for (const auto& c : *selected) names.push_back(c.metadata().name());
  return names;
}

TEST(SelectContainers, NewestFirst) { EXPECT_THAT(Names({}), testing::ElementsAre("web-2", "db", "web")); }

TEST(SelectContainers, NameIsARegularExpression) {
  EXPECT_THAT(Names({.name = "web"}), testing::ElementsAre("web-2", "web"));
  EXPECT_THAT(Names({.name = "^web$"}), testing::ElementsAre("web"));
  EXPECT_FALSE(SelectContainers(Containers(), {.name = "("}, {}));
}

TEST(SelectContainers, NamespaceImageLastLatest) {
  EXPECT_THAT(Names({.pod_namespace = "^default$"}), testing::ElementsAre("db", "web"));
  EXPECT_THAT(Names({.image = "busybox"}), testing::SizeIs(3));
  EXPECT_THAT(Names({.image = "nginx"}), testing::IsEmpty());
  EXPECT_THAT(Names({.last = 2}), testing::ElementsAre("web-2", "db"));
  EXPECT_THAT(Names({.latest = true}), testing::ElementsAre("web-2"));
}

TEST(ToContainerFilter, OnlyRunningUnlessAskedForMore) {
  EXPECT_EQ(ToContainerFilter({})->state().state(), cri::CONTAINER_RUNNING);
  EXPECT_FALSE(ToContainerFilter({.all = true})->has_state());
  EXPECT_FALSE(ToContainerFilter({.latest = true})->has_state());
  EXPECT_EQ(ToContainerFilter({.state = "exit"})->state().state(), cri::CONTAINER_EXITED);
  EXPECT_FALSE(ToContainerFilter({.state = "dead"}));
}

TEST(ToPodFilter, StatesAndLabels) {
  EXPECT_EQ(ToPodFilter({.state = "notready"})->state().state(), cri::SANDBOX_NOTREADY);
  EXPECT_EQ(ToPodFilter({.labels = {"a=b=c"}})->label_selector().at("a"), "b=c");
  EXPECT_FALSE(ToPodFilter({.labels = {"a"}}));
  EXPECT_FALSE(ToPodFilter({.state = "x"}));
}

TEST(FromStatus, SaysWhatTheUserCanDo) {
  grpc::Status down(grpc::StatusCode::UNAVAILABLE,
                    "failed to connect to all addresses; last error: UNKNOWN: x: No such file or directory");
  Error error = FromStatus(down, "unix:///run/x.sock");
  EXPECT_EQ(error.code(), Code::kUnavailable);
  EXPECT_THAT(error.message(), testing::HasSubstr("unix:///run/x.sock"));
  EXPECT_THAT(error.message(), testing::HasSubstr("No such file"));
  EXPECT_THAT(FromStatus({grpc::StatusCode::UNIMPLEMENTED, ""}, "e").message(),
              testing::HasSubstr("does not implement"));
  EXPECT_EQ(FromStatus({grpc::StatusCode::NOT_FOUND, "no pod x"}, "e").message(), "no pod x");
}

}  // namespace
}  // namespace crisp::ctl
