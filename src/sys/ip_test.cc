#include "sys/ip.h"

#include <gtest/gtest.h>

#include "sys/netlink_route.h"

namespace crisp::sys {
namespace {

IpAddress A(std::string_view text) { return IpAddress::Parse(text).value(); }
IpPrefix P(std::string_view text) { return IpPrefix::Parse(text).value(); }

TEST(Ip, ParsesBothFamiliesAndPrintsThemShortest) {
  EXPECT_EQ(A("10.88.0.2").Text(), "10.88.0.2");
  EXPECT_EQ(A("FD00:88:0:0::2").Text(), "fd00:88::2");
  EXPECT_EQ(A("::ffff:10.0.0.1"), A("10.0.0.1"));
  EXPECT_TRUE(A("::").unspecified());
}

TEST(Ip, RefusesWhatIsNoAddress) {
  for (std::string_view bad : {"", "10.0.0", "10.0.0.256", "1.2.3.4 ", "fe80::1%eth0", "[::1]", "localhost", "010.0.0.1"}) {
    EXPECT_FALSE(IpAddress::Parse(bad)) << bad;
  }
  EXPECT_FALSE(IpAddress::Parse(std::string_view("10.0.0.1\0x", 10)));
  for (std::string_view bad : {"10.0.0.1", "10.0.0.1/33", "::/129", "10.0.0.1/", "10.0.0.1/-1", "10.0.0.1/8/8", "/8"}) {
    EXPECT_FALSE(IpPrefix::Parse(bad)) << bad;
  }
}

TEST(Ip, CountsAcrossBytesAndWraps) {
  EXPECT_EQ(A("10.0.0.255").Next(), A("10.0.1.0"));
  EXPECT_EQ(A("10.0.1.0").Previous(), A("10.0.0.255"));
  EXPECT_EQ(A("255.255.255.255").Next(), A("0.0.0.0"));
  EXPECT_EQ(A("fd00::ffff").Next(), A("fd00::1:0"));
}

TEST(Ip, PrefixKnowsItsEdges) {
  EXPECT_EQ(P("10.88.5.6/20").Network(), A("10.88.0.0"));
  EXPECT_EQ(P("10.88.5.6/20").Last(), A("10.88.15.255"));
  EXPECT_EQ(P("fd00:88::5/64").Last(), A("fd00:88::ffff:ffff:ffff:ffff"));
  EXPECT_TRUE(P("0.0.0.0/0").Contains(A("255.1.2.3")));
  EXPECT_FALSE(P("0.0.0.0/0").Contains(A("::1")));
  EXPECT_TRUE(P("10.0.0.0/30").Contains(A("10.0.0.3")));
  EXPECT_FALSE(P("10.0.0.0/30").Contains(A("10.0.0.4")));
}

TEST(Mac, RoundTripsAndRefusesGarbage) {
  EXPECT_EQ(MacText(ParseMac("0a:58:FF:00:00:02").value()), "0a:58:ff:00:00:02");
  for (std::string_view bad : {"", "0a:58", "0a:58:0a:58:00:0g", "0a:58:0a:58:00:002", "0a-58-0a-58-00-02"}) {
    EXPECT_FALSE(ParseMac(bad)) << bad;
  }
}

}  // namespace
}  // namespace crisp::sys
