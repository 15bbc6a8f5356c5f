#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/strings.h"
#include "metrics/call_metrics.h"
#include "metrics/page_server.h"

namespace crisp::metrics {
namespace {

using testing::HasSubstr;

TEST(CallMetrics, CountsByMethodAndCode) {
  CallMetrics metrics;
  metrics.Observe("Version", 0, std::chrono::microseconds(50));
  metrics.Observe("Version", 0, std::chrono::microseconds(100));  // a bound belongs to its bucket
  metrics.Observe("Version", 5, std::chrono::hours(1));
  std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("crisp_calls_total{method=\"Version\",code=\"OK\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("crisp_calls_total{method=\"Version\",code=\"NOT_FOUND\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("crisp_call_seconds_bucket{method=\"Version\",le=\"0.0001\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("crisp_call_seconds_bucket{method=\"Version\",le=\"60\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("crisp_call_seconds_bucket{method=\"Version\",le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("crisp_call_seconds_count{method=\"Version\"} 3\n"));
}

std::string Ask(int port, const std::string& request) {
  sys::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  (void)sys::WriteAll(fd.borrow(), request);
  if (request.empty()) return {};
  Result<std::string> reply = sys::ReadAll(fd.borrow(), 1 << 20);
  return reply ? *reply : "reset";
}

TEST(PageServer, ServesItsPageAndNothingElse) {
  std::string page(300'000, 'x');
  auto server = PageServer::Listen("127.0.0.1:0", "/metrics", [&] { return page; });
  ASSERT_TRUE(server) << server.error().message();
  std::string reply = Ask((*server)->port(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(reply.substr(0, 200), HasSubstr("200 OK"));
  EXPECT_THAT(reply.substr(0, 200), HasSubstr("Content-Length: 300000\r\n"));
  EXPECT_TRUE(reply.ends_with("\r\n\r\n" + page));
  EXPECT_THAT(Ask((*server)->port(), "GET /metrics/../x HTTP/1.1\r\n\r\n"), HasSubstr("404"));
  EXPECT_THAT(Ask((*server)->port(), "POST /metrics HTTP/1.1\r\n\r\n"), HasSubstr("404"));
  Ask((*server)->port(), "");                         // one that says nothing
  Ask((*server)->port(), std::string(100'000, 'y'));  // one that says too much
  EXPECT_THAT(Ask((*server)->port(), "GET /metrics HTTP/1.0\r\n\r\n").substr(0, 20), HasSubstr("200"));
}

TEST(PageServer, RefusesWhatIsNoAddress) {
  for (const char* address : {"", "localhost:1", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x"}) {
    EXPECT_FALSE(PageServer::Listen(address, "/", [] { return std::string(); })) << address;
  }
}

}  // namespace
}  // namespace crisp::metrics
