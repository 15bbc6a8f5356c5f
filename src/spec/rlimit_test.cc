#include "spec/rlimit.h"

#include <gtest/gtest.h>

namespace crisp::spec {
namespace {

TEST(ParseRlimit, WhatIsALimit) {
  Result<Rlimit> both = ParseRlimit("nofile=1024:524288");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->type, "RLIMIT_NOFILE");
  EXPECT_EQ(both->soft, 1024u);
  EXPECT_EQ(both->hard, 524288u);
  Result<Rlimit> one = ParseRlimit("core=0");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->soft, 0u);
  EXPECT_EQ(one->hard, 0u);
  Result<Rlimit> none = ParseRlimit("memlock=8:-1");
  ASSERT_TRUE(none);
  EXPECT_EQ(none->hard, ~uint64_t{0});
}

TEST(ParseRlimit, WhatIsNot) {
  for (const char* text : {"", "nofile", "nofile=", "nofile=1:", "nofile=2:1", "nofile=-1:5", "NOFILE=1", "files=1",
                           "nofile=1:2:3", "nofile= 1", "nofile=99999999999999999999"}) {
    EXPECT_FALSE(ParseRlimit(text)) << text;
  }
}

}  // namespace
}  // namespace crisp::spec
