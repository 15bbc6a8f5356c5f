// A directory that goes away with the test.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>
#include <string_view>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::image::testing {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/crisp-image-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { EXPECT_TRUE(sys::RemoveTree(path_)); }
  const std::string& path() const { return path_; }
  // `name` may have directories in it.
  void Write(const std::string& name, std::string_view text, mode_t mode = 0644) const {
    std::string file = StrCat(path_, "/", name);
    ASSERT_TRUE(sys::MakeDirs(file.substr(0, file.rfind('/')), 0755));
    ASSERT_TRUE(sys::WriteFileAtomic(file, text, mode, sys::Durability::kNone));
  }

 private:
  std::string path_;
};

}  // namespace crisp::image::testing
