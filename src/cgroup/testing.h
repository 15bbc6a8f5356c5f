// A machine made of files, for tests.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "base/strings.h"
#include "cgroup/cgroup.h"

namespace crisp::cgroup {

class Machine {
 public:
  Machine() {
    char name[] = "/tmp/cgroup-test-XXXXXX";
    dir_ = mkdtemp(name);
  }
  ~Machine() { std::filesystem::remove_all(dir_); }
  Machine& File(const std::string& path, const std::string& content) {
    std::filesystem::path full = dir_ + "/" + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << content;
    return *this;
  }
  Machine& Mount(const std::string& where, const std::string& type, const std::string& options, const std::string& root = "/") {
    mounts_ += StrCat("40 31 0:1 ", root, " ", where, " rw,relatime shared:9 - ", type, " ", type, " rw,", options, "\n");
    std::filesystem::create_directories(dir_ + "/tree" + where.substr(std::string("/sys/fs/cgroup").size()));
    return *this;
  }
  std::unique_ptr<Cgroups> Detect(Driver driver = Driver::kCgroupfs) {
    File("mountinfo", mounts_);
    auto cgroups = Cgroups::Detect({.driver = driver,
                                    .root = dir_ + "/tree",
                                    .mountinfo = dir_ + "/mountinfo",
                                    .mounted = mounted_,
                                    .hugepages_dir = dir_ + "/hugepages"});
    EXPECT_TRUE(cgroups) << cgroups.error().message();
    return std::move(*cgroups);
  }
  // What the kernel says that there is: a line for each hierarchy.
  Machine& Hierarchies(const std::string& text) {
    mounted_ = dir_ + "/cgroup";
    File("cgroup", text);
    return *this;
  }
  std::string Tree(const std::string& path) const { return dir_ + "/tree" + path; }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_, mounted_, mounts_ = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n";
};

inline Machine& MakeV1(Machine& m) {
  return m.Mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct,release_agent=/x")
      .Mount("/sys/fs/cgroup/memory", "cgroup", "memory")
      .Mount("/sys/fs/cgroup/systemd", "cgroup", "xattr,name=systemd");
}

}  // namespace crisp::cgroup
