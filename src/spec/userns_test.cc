#include "spec/userns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "spec/testing/inputs.h"

namespace crisp::spec {
namespace {

using ::testing::HasSubstr;

constexpr IdMapping kRange{.host_id = 100000, .container_id = 0, .length = 65536};

SandboxSecurity InUserns() {
  SandboxSecurity security;
  security.namespaces.userns_pod = true;
  security.namespaces.uids = security.namespaces.gids = {kRange};
  return security;
}

struct BadMaps {
  std::vector<IdMapping> maps;
  const char* why;
};

TEST(UsernsTest, BadMapsAreRefusedByTheNameOfTheirField) {
  const BadMaps cases[] = {
      {{}, "missing"},
      {{{.host_id = 1000, .container_id = 0, .length = 0}}, "[0]: length 0"},
      {{{.host_id = 1000, .container_id = 1, .length = 10}}, "container id 0 is not mapped"},
      {{{.host_id = 0, .container_id = 0, .length = 10}}, "the node's root"},
      {{{.host_id = 4294967290, .container_id = 0, .length = 65536}}, "[0]: host_id and length"},
      {{kRange, {.host_id = 900000, .container_id = 4294967290, .length = 65536}}, "[1]: container_id and length"},
      {{kRange, {.host_id = 900000, .container_id = 65535, .length = 2}}, "[1]: container ids overlap with [0]"},
      {{kRange, {.host_id = 165535, .container_id = 70000, .length = 2}}, "[1]: host ids overlap with [0]"},
  };
  for (const BadMaps& each : cases) {
    for (bool uids : {true, false}) {
      SandboxSecurity security = InUserns();
      (uids ? security.namespaces.uids : security.namespaces.gids) = each.maps;
      Result<> checked = CheckUserns(security);
      ASSERT_FALSE(checked) << each.why;
      EXPECT_EQ(checked.error().code(), Code::kInvalidArgument);
      EXPECT_THAT(checked.error().message(), HasSubstr(uids ? "userns_options.uids" : "userns_options.gids"));
      EXPECT_THAT(checked.error().message(), HasSubstr(each.why));
    }
  }
  EXPECT_TRUE(CheckUserns(InUserns()));
  SandboxSecurity two = InUserns();
  two.namespaces.gids.push_back({.host_id = 300000, .container_id = 65536, .length = 10});
  EXPECT_TRUE(CheckUserns(two));
}

TEST(UsernsTest, WhatDoesNotGoTogetherWithOneIsRefused) {
  SandboxSecurity privileged = InUserns();
  privileged.privileged = true;
  EXPECT_EQ(CheckUserns(privileged).error().code(), Code::kInvalidArgument);
  SandboxSecurity pid = InUserns(), ipc = InUserns(), network = InUserns();
  pid.namespaces.pid = NamespaceMode::kNode;
  ipc.namespaces.ipc = NamespaceMode::kNode;
  network.namespaces.network = NamespaceMode::kNode;
  EXPECT_EQ(CheckUserns(pid).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(CheckUserns(ipc).error().code(), Code::kInvalidArgument);
  EXPECT_TRUE(CheckUserns(network)) << "the node's network goes together with it";
  SandboxSecurity unused = InUserns();
  unused.namespaces.userns_pod = false;
  EXPECT_THAT(CheckUserns(unused).error().message(), HasSubstr("userns_options.uids"));
}

ContainerInputs Inputs() {
  ContainerInputs in = testing::SomeInputs();
  in.sandbox.security = InUserns();
  in.namespaces.user = "/proc/7/ns/user";
  return in;
}

TEST(UsernsTest, AContainerIsInItsPodsNamespace) {
  ContainerInputs in = Inputs();
  EXPECT_TRUE(PlanContainer(in, testing::SomeNode()));
  in.config.security.namespaces.userns_pod = true;
  in.config.security.namespaces.uids = in.config.security.namespaces.gids = {kRange};
  EXPECT_TRUE(PlanContainer(in, testing::SomeNode()));
  in.config.security.namespaces.uids[0].host_id = 200000;
  EXPECT_THAT(PlanContainer(in, testing::SomeNode()).error().message(), HasSubstr("other mappings than the pod's"));
  in.sandbox.security = {};
  EXPECT_THAT(PlanContainer(in, testing::SomeNode()).error().message(), HasSubstr("the pod has no user namespace"));
}

TEST(UsernsTest, UsersOutsideOfTheMapsAndPrivilegeAreRefused) {
  ContainerInputs in = Inputs();
  in.user.uid = 65536;
  EXPECT_THAT(PlanContainer(in, testing::SomeNode()).error().message(), HasSubstr("user 65536"));
  in = Inputs();
  in.user.additional_gids = {0, 70000};
  EXPECT_THAT(PlanContainer(in, testing::SomeNode()).error().message(), HasSubstr("group 70000"));
  in = Inputs();
  in.config.security.privileged = in.sandbox.security.privileged = true;
  Result<ContainerPlan> plan = PlanContainer(in, testing::SomeNode());
  EXPECT_EQ(plan.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(plan.error().message(), HasSubstr("privileged"));
}

TEST(UsernsTest, AGoneNamespaceNeverMeansTheNodes) {
  ContainerInputs in = Inputs();
  in.namespaces.user.clear();
  EXPECT_FALSE(PlanContainer(in, testing::SomeNode()));
}

TEST(UsernsTest, DevicesUnderAnotherNameAreBound) {
  ContainerInputs in = Inputs();
  in.devices = {{.container_path = "/dev/mine", .host_path = "/dev/fuse", .major = 10, .minor = 229}};
  Result<ContainerPlan> plan = PlanContainer(in, testing::SomeNode());
  ASSERT_TRUE(plan);
  Json config = ParseJson(plan->config_json, "plan").value();
  EXPECT_FALSE(config["linux"].contains("devices"));
  EXPECT_EQ(config["mounts"].back()["source"], "/dev/fuse");
}

}  // namespace
}  // namespace crisp::spec
