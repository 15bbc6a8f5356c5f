// Parsers of /proc files, and what can be seen of our own process.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/fd.h"
#include "sys/net_dev.h"
#include "sys/process_info.h"

namespace crisp::sys {
namespace {

TEST(NetDev, ParsesBothDirections) {
  std::vector<LinkCounters> links = ParseNetDev(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
      "compressed\n"
      "    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0 "
      "0\n"
      "a:b:18446744073709551615 12 13 14 15 16 17 18 21 22 23 24 25 26 27 28\n");
  ASSERT_EQ(links.size(), 2u);
  EXPECT_EQ(links[0].name, "lo");
  EXPECT_EQ(links[0].sent.bytes, 100u);
  EXPECT_EQ(links[1].name, "a:b") << "a colon is allowed in a name";
  EXPECT_EQ(links[1].received.bytes, 18446744073709551615u);
  EXPECT_EQ(links[1].received.packets, 12u);
  EXPECT_EQ(links[1].received.errors, 13u);
  EXPECT_EQ(links[1].received.dropped, 14u);
  EXPECT_EQ(links[1].sent.bytes, 21u);
  EXPECT_EQ(links[1].sent.packets, 22u);
  EXPECT_EQ(links[1].sent.errors, 23u);
  EXPECT_EQ(links[1].sent.dropped, 24u);
}

TEST(NetDev, LeavesOutWhatDoesNotParseAndStopsAtItsLimit) {
  EXPECT_TRUE(ParseNetDev("").empty());
  EXPECT_TRUE(ParseNetDev("eth0: 1 2 3\n: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").empty());
  EXPECT_TRUE(ParseNetDev("eth0: 1 2 3 x 5 6 7 8 9 10 11 12 13 14 15 16\n").empty());
  std::string many;
  for (int i = 0; i < 1000; ++i) many += StrCat("v", i, ": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
  EXPECT_EQ(ParseNetDev(many).size(), kLinksMax);
}

TEST(NetDev, ANamespaceThatIsGoneIsAbsent) {
  auto links = ReadLinkCounters({"/nowhere", "/proc/self/status"}).value();
  ASSERT_EQ(links.size(), 2u);
  EXPECT_FALSE(links[0]);
  EXPECT_FALSE(links[1]) << "no network namespace";
}

TEST(ProcessInfo, CountsDescriptorsAndSockets) {
  OpenDescriptors before = CountDescriptors(getpid(), 10'000);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Result<Pipe> pipe = MakePipe();
  ASSERT_TRUE(socket.ok() && pipe);
  OpenDescriptors after = CountDescriptors(getpid(), 10'000);
  EXPECT_EQ(after.all, before.all + 3);
  EXPECT_EQ(after.sockets, before.sockets + 1);
  EXPECT_EQ(CountDescriptors(getpid(), 2).all, 2u) << "bounded";
  EXPECT_EQ(CountDescriptors(0, 10).all, 0u) << "no such process";
}

TEST(ProcessInfo, SoftLimitOfOpenFiles) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_cur != RLIM_INFINITY) {
    EXPECT_EQ(SoftOpenFilesLimit(getpid()), limit.rlim_cur);
  }
  EXPECT_EQ(ParseSoftOpenFilesLimit("Limit  Soft Limit  Hard\nMax open files   1024   4096   files\n"), 1024u);
  EXPECT_EQ(ParseSoftOpenFilesLimit("Max open files   unlimited   4096   files\n"), std::nullopt);
  EXPECT_EQ(ParseSoftOpenFilesLimit("Max open files"), std::nullopt);
  EXPECT_EQ(ParseSoftOpenFilesLimit(""), std::nullopt);
}

TEST(ProcessInfo, StatOfAProcessWithAnyName) {
  std::optional<ProcessStat> own = ReadProcessStat(getpid());
  ASSERT_TRUE(own);
  EXPECT_EQ(own->state, 'R');
  EXPECT_GT(own->start_ticks, 0u);
  std::optional<ProcessStat> odd =
      ParseProcessStat("7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 12 13\n");
  ASSERT_TRUE(odd);
  EXPECT_EQ(odd->state, 'S');
  EXPECT_EQ(odd->start_ticks, 4711u);
  EXPECT_FALSE(ParseProcessStat("7 (a) S 1"));
  EXPECT_FALSE(ParseProcessStat(""));
}

}  // namespace
}  // namespace crisp::sys
