// Every kernel test of this module runs in namespaces of its own. A child started by a test is in its parent's already.
#include <cstdlib>

#include "network/testing.h"

namespace crisp::network {
namespace {

class TestHost : public testing::Environment {
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);  // as the daemon does
    if (std::getenv("CRISP_TEST_CHILD") == nullptr) EnterTestHost();
  }
};
[[maybe_unused]] const auto* const g_environment = testing::AddGlobalTestEnvironment(new TestHost);

}  // namespace
}  // namespace crisp::network
