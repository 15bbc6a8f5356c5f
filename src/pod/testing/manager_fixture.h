// What tests of the manager's verbs stand on: a manager on a node made of files, and short words for what they do all
// the time.
#pragma once

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pod/manager.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod::testing {

class ManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/pod-test-XXXXXX" : "/tmp/pod-test-XXXXXX";
    dir_ = mkdtemp(name.data());
    daemon_ = std::make_unique<Daemon>(dir_);
  }
  void TearDown() override {
    daemon_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Restart() {
    daemon_.reset();
    daemon_ = std::make_unique<Daemon>(dir_);
  }

  Manager& m() { return **daemon_; }
  World& world() { return daemon_->world; }
  std::string Pod(const std::string& name = "web") {
    Result<PodId> id = m().RunSandbox(ctx_, Sandbox(name));
    EXPECT_TRUE(id) << id.error().message();
    return id ? id->str() : "";
  }
  std::string Created(const std::string& pod, std::vector<std::string> command = {"run"},
                      const std::string& name = "main") {
    Result<ContainerId> id = m().CreateContainer(ctx_, pod, Container(name, std::move(command)));
    EXPECT_TRUE(id) << id.error().message();
    return id ? id->str() : "";
  }
  std::string Running(const std::string& pod, std::vector<std::string> command = {"run"},
                      const std::string& name = "main") {
    std::string id = Created(pod, std::move(command), name);
    Result<> started = m().StartContainer(ctx_, id);
    EXPECT_TRUE(started) << started.error().message();
    return id;
  }
  ContainerRef Status(const std::string& id) { return *m().GetContainer(id); }
  // Events come on a worker of the manager.
  ContainerRef Exited(const std::string& id) {
    (*daemon_)->DrainBackground();
    ContainerRef status = Status(id);
    EXPECT_EQ(status->state, ContainerState::kExited);
    return status;
  }
  void ExpectNothingLeft() {
    (*daemon_)->DrainBackground();
    EXPECT_THAT(world().Left(), ::testing::IsEmpty());
    EXPECT_THAT(*daemon_->db->List(kPodTable), ::testing::IsEmpty());
    EXPECT_THAT(*daemon_->db->List(kContainerTable), ::testing::IsEmpty());
    EXPECT_THAT(m().ListSandboxes({}), ::testing::IsEmpty());
    EXPECT_THAT(m().ListContainers({}), ::testing::IsEmpty());
  }

  std::string dir_;
  std::unique_ptr<Daemon> daemon_;
  Ctx ctx_;
};

}  // namespace crisp::pod::testing
