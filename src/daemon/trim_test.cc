#include "daemon/trim.h"

#include <gtest/gtest.h>

#include <array>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::daemon {
namespace {

int64_t FilePagesKib() {
  std::string status = sys::ReadFile("/proc/self/status").value();
  size_t at = status.find("RssFile:") + 8;
  return ParseInt<int64_t>(Trim(status.substr(at, status.find("kB", at) - at))).value();
}

constexpr size_t kBytes = 1 << 20;
const std::array<char, kBytes> kConstants = {1, 2, 3};
std::array<char, kBytes> variables = {4, 5, 6};  // of a segment that can be written

TEST(Trim, GivesBackPagesOfTheFileAndLosesNothing) {
  int sum = 0;
  for (size_t i = 0; i < kBytes; i += 512) sum += kConstants[i];
  variables[kBytes / 2] = 7;
  EXPECT_EQ(sum, 1);
  int64_t before = FilePagesKib();
  TrimMemory();
  EXPECT_LT(FilePagesKib(), before - static_cast<int64_t>(kBytes >> 10) / 2);
  EXPECT_EQ(kConstants[2], 3);
  EXPECT_EQ(variables[2], 6);
  EXPECT_EQ(variables[kBytes / 2], 7);
}

}  // namespace
}  // namespace crisp::daemon
