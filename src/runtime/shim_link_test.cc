#include "runtime/shim_link.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shimapi/socket.h"

namespace crisp::runtime {
namespace {

// A link whose shim, and whose hub, is the test.
class ShimLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    shim_ = sys::UniqueFd(pair[1]);
    link_ = std::make_unique<ShimLink>(PodId::Random(), "/nowhere", sys::UniqueFd(pair[0]), getpid(),
                                       sys::PidfdOpen(getpid()).value(),
                                       [](const PodId&, const shimapi::ContainerState&) {});
  }
  // The number of the exec's StartExec, as the shim receives it.
  uint32_t Start(uint64_t exec) {
    shimapi::StartExec request;
    request.exec = exec;
    EXPECT_TRUE(link_->StartExec(Ctx(), request, {}));
    Result<shimapi::Received> received = shimapi::ReceiveMessage(shim_, buffer_.data(), buffer_.size());
    EXPECT_EQ(shimapi::Decode<shimapi::StartExec>(received->bytes).value().exec, exec);
    return shimapi::DecodeHeader(received->bytes).value().seq;
  }
  template <class Message>
  void Say(uint32_t seq, const Message& message) {
    ASSERT_TRUE(shimapi::SendMessage(shim_, shimapi::Encode(seq, message).value()));
    EXPECT_EQ(link_->ReadOne(buffer_.data(), buffer_.size()), ShimLink::ReadResult::kMore);
  }
  static bool Over(const ExecWait& wait) {
    pollfd readable{wait.event.get(), POLLIN, 0};
    return poll(&readable, 1, 0) == 1;
  }

  sys::UniqueFd shim_;
  std::unique_ptr<ShimLink> link_;
  std::string buffer_ = std::string(shimapi::kMessageBytesMax, '\0');
};

TEST_F(ShimLinkTest, AnExecIsOverWhenItEnds) {
  auto [exec, wait] = link_->NewExec().value();
  const uint32_t seq = Start(exec);
  Say(seq, shimapi::Started{5});
  EXPECT_TRUE(wait->started && !Over(*wait));
  Say(0, shimapi::ExecExited{exec, 3, 0});
  EXPECT_TRUE(Over(*wait) && wait->over && !wait->lost && !wait->failure);
  EXPECT_EQ(wait->exit.code, 3);
}

TEST_F(ShimLinkTest, AnExecIsOverWhenItDoesNotStart) {
  auto [exec, wait] = link_->NewExec().value();
  auto [other, others_wait] = link_->NewExec().value();
  const uint32_t seq = Start(exec);
  Start(other);
  shimapi::ErrorReply error;
  error.code = static_cast<int32_t>(Code::kUnknown);
  error.message = "no such program";
  Say(seq, error);
  ASSERT_TRUE(Over(*wait) && wait->over && wait->failure);
  EXPECT_EQ(ShimLink::ToError(*wait->failure).message(), "no such program");
  EXPECT_FALSE(Over(*others_wait));
}

TEST_F(ShimLinkTest, AFailureThatIsMalformedIsOneAllTheSame) {
  auto [exec, wait] = link_->NewExec().value();
  std::string bytes = shimapi::Encode(Start(exec), shimapi::Hello{"x"}).value();
  bytes[8] = static_cast<char>(shimapi::Type::kError);  // ends within its second field
  ASSERT_TRUE(shimapi::SendMessage(shim_, bytes));
  EXPECT_EQ(link_->ReadOne(buffer_.data(), buffer_.size()), ShimLink::ReadResult::kMore);
  ASSERT_TRUE(Over(*wait) && wait->failure);
  EXPECT_NE(wait->failure->message, "");
}

TEST_F(ShimLinkTest, AnAnswerThatNobodyWaitsForAnyMoreIsNoTrouble) {
  auto [exec, wait] = link_->NewExec().value();
  const uint32_t seq = Start(exec);
  link_->ForgetExec(exec);
  Say(seq, shimapi::ErrorReply{});
  Say(0, shimapi::ExecExited{exec, 0, 0});
  EXPECT_FALSE(Over(*wait));
}

TEST_F(ShimLinkTest, AnExecIsOverWhenTheShimIsGone) {
  auto [exec, wait] = link_->NewExec().value();
  Start(exec);
  link_->Close();
  EXPECT_TRUE(Over(*wait) && wait->lost);
  EXPECT_FALSE(link_->StartExec(Ctx(), shimapi::StartExec{}, {}));
}

}  // namespace
}  // namespace crisp::runtime
