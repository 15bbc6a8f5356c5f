#include "shimapi/socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ids.h"
#include "shimapi/message.h"
#include "sys/file.h"

namespace crisp::shimapi {
namespace {

class SocketTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(sys::MakeDirs(dir_, 0700)); }
  void TearDown() override { EXPECT_TRUE(sys::RemoveTree(top_)); }
  // Longer than a sockaddr_un's 108 bytes.
  std::string top_ = "/tmp/crisp-socket-test-" + RandomHex(6);
  std::string dir_ = top_ + "/" + std::string(64, 'a') + "/" + std::string(64, 'b');
  char buffer_[kMessageBytesMax];
};

TEST_F(SocketTest, DatagramsWithDescriptors) {
  std::string path = dir_ + "/s";
  sys::UniqueFd listener = *Listen(path, SocketType::kSeqPacket);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  Result<sys::UniqueFd> client = Connect(path, SocketType::kSeqPacket);
  ASSERT_TRUE(client) << client.error().message();
  sys::UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(Peer(server)->pid, getpid());
  EXPECT_EQ(Peer(*client)->uid, geteuid());

  EXPECT_TRUE(ReceiveMessage(server, buffer_, sizeof buffer_)->nothing);
  sys::Pipe pipe = *sys::MakePipe();
  ASSERT_TRUE(SendMessage(*client, "one", {pipe.write.borrow()}));
  ASSERT_TRUE(SendMessage(*client, "two"));
  Result<Received> first = ReceiveMessage(server, buffer_, sizeof buffer_);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes, "one");
  ASSERT_EQ(first->fds.size(), 1u);
  EXPECT_EQ(fcntl(first->fds[0].get(), F_GETFD), FD_CLOEXEC);
  ASSERT_TRUE(sys::WriteAll(first->fds[0], "x"));
  first->fds.clear();
  pipe.write.Reset();
  EXPECT_EQ(*sys::ReadAll(pipe.read, 10), "x");
  EXPECT_EQ(ReceiveMessage(server, buffer_, sizeof buffer_)->bytes, "two");

  ASSERT_TRUE(SendMessage(*client, std::string(kMessageBytesMax, 'm')));
  EXPECT_EQ(ReceiveMessage(server, buffer_, sizeof buffer_)->bytes.size(), kMessageBytesMax);
  ASSERT_TRUE(SendMessage(*client, "longer than the buffer"));
  EXPECT_FALSE(ReceiveMessage(server, buffer_, 10)) << "cut";

  client->Reset();
  EXPECT_TRUE(ReceiveMessage(server, buffer_, sizeof buffer_)->closed);
  Result<> sent = SendMessage(server, "nobody");
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), Code::kAborted);
}

TEST_F(SocketTest, TooManyDescriptorsAreRefusedAndClosed) {
  sys::UniqueFd listener = *Listen(dir_ + "/s", SocketType::kSeqPacket);
  sys::UniqueFd client = *Connect(dir_ + "/s", SocketType::kSeqPacket);
  sys::UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  std::vector<sys::BorrowedFd> many(kMessageFdsMax + 1, client.borrow());
  EXPECT_FALSE(SendMessage(client, "x", many));
  // A stranger that sends them nevertheless.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (kMessageFdsMax + 1))] = {};
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int) * (kMessageFdsMax + 1));
  int fd = client.get();
  for (size_t i = 0; i <= kMessageFdsMax; ++i) memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
  int before = dup(0);
  close(before);
  ASSERT_EQ(sendmsg(client.get(), &message, 0), 1);
  EXPECT_FALSE(ReceiveMessage(server, buffer_, sizeof buffer_));
  int after = dup(0);
  close(after);
  EXPECT_EQ(before, after) << "descriptors of the refused message are closed";
}

TEST_F(SocketTest, NobodyThereIsNotFound) {
  EXPECT_EQ(Connect(dir_ + "/none", SocketType::kSeqPacket).error().code(), Code::kNotFound);
  Listen(dir_ + "/stale", SocketType::kSeqPacket).value().Reset();
  EXPECT_EQ(Connect(dir_ + "/stale", SocketType::kSeqPacket).error().code(), Code::kNotFound);
  EXPECT_TRUE(Listen(dir_ + "/stale", SocketType::kSeqPacket)) << "a stale socket is replaced";
}

TEST_F(SocketTest, FullBufferIsUnavailable) {
  sys::UniqueFd listener = *Listen(dir_ + "/s", SocketType::kSeqPacket);
  sys::UniqueFd client = *Connect(dir_ + "/s", SocketType::kSeqPacket);
  Result<> sent;
  for (int i = 0; i < 10'000 && sent; ++i) sent = SendMessage(client, std::string(1000, 'x'));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace crisp::shimapi
