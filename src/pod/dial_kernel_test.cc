#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/ids.h"
#include "pod/dial.h"
#include "sys/netns.h"

namespace crisp::pod {
namespace {

using std::chrono::seconds;

class DialTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    Result<sys::NewNetns> made = sys::CreateNetns();
    ASSERT_TRUE(made) << made.error().message();
    netns_ = std::move(made->fd);
    ASSERT_TRUE(sys::PinNetns(netns_, path_));
  }
  void TearDown() override { EXPECT_TRUE(sys::UnpinNetns(path_)); }
  // A listener on localhost inside the namespace.
  uint16_t Listen(int family) {
    uint16_t port = 0;
    Result<> done = sys::RunInNetns(netns_, [&]() -> Result<> {
      listener_.Reset(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in6 any{};  // room for both
      socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof any;
      if (family == AF_INET) {
        auto* v4 = reinterpret_cast<sockaddr_in*>(&any);
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      } else {
        any.sin6_family = AF_INET6;
        any.sin6_addr = in6addr_loopback;
      }
      auto* address = reinterpret_cast<sockaddr*>(&any);
      if (bind(listener_.get(), address, size) != 0 || listen(listener_.get(), 8) != 0) return Errno(errno, "listen");
      if (getsockname(listener_.get(), address, &size) != 0) return Errno(errno, "getsockname");
      port = ntohs(any.sin6_port);  // at the same place in both
      return {};
    });
    EXPECT_TRUE(done) << done.error().message();
    return port;
  }

  const std::string path_ = "/tmp/crisp-dial-test-" + RandomHex(6);
  sys::UniqueFd netns_, listener_;
};

INSTANTIATE_TEST_SUITE_P(Families, DialTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(DialTest, ReachesWhoListensInTheNamespaceOnly) {
  uint16_t port = Listen(GetParam());
  Ctx ctx = Ctx().WithTimeout(seconds(30));
  Result<sys::UniqueFd> dialled = DialLocalhost(ctx, path_, port);
  ASSERT_TRUE(dialled) << dialled.error().message();
  sys::UniqueFd accepted(accept(listener_.get(), nullptr, nullptr));
  ASSERT_TRUE(accepted.ok());
  ASSERT_EQ(write(accepted.get(), "hello", 5), 5);
  accepted.Reset();
  EXPECT_EQ(fcntl(dialled->get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  ASSERT_EQ(fcntl(dialled->get(), F_SETFL, 0), 0);
  EXPECT_EQ(*sys::ReadAll(*dialled, 10), "hello");
  EXPECT_FALSE(DialLocalhost(ctx, "/nonexistent", port));
}

TEST_P(DialTest, RefusedIsSaidOfBothFamilies) {
  uint16_t port = Listen(GetParam());
  listener_.Reset();
  Result<sys::UniqueFd> dialled = DialLocalhost(Ctx().WithTimeout(seconds(30)), path_, port);
  ASSERT_FALSE(dialled);
  EXPECT_EQ(dialled.error().code(), Code::kUnavailable);
  for (const char* part : {"127.0.0.1: connect: Connection refused", "::1: connect: Connection refused"}) {
    EXPECT_NE(dialled.error().message().find(part), std::string::npos) << dialled.error().message();
  }
}

}  // namespace
}  // namespace crisp::pod
