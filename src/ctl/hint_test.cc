// What to do about errors, and what somebody may have meant.
#include "ctl/hint.h"

#include <gmock/gmock.h>

#include "ctl/near.h"

namespace crisp::ctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Hint(Code code, const char* message) {
  return HintFor(Error(code, message), {.program = "crictl",
                                        .command = "ps",
                                        .endpoint = "unix:///a.sock",
                                        .sockets = {"unix:///a.sock", "unix:///b.sock"}});
}

TEST(Hint, EachClassOfErrorsHasItsOwn) {
  struct {
    Code code;
    const char* message;
    const char* hint;
  } const kCases[] = {
      {Code::kUnavailable, "no runtime answers on unix:///a.sock: No such file or directory",
       "there is unix:///b.sock"},
      {Code::kUnavailable, "no runtime answers on unix:///a.sock: Permission denied", "sudo crictl ps"},
      {Code::kUnavailable, "no runtime answers on unix:///a.sock: Connection refused", "journalctl -u crispd"},
      {Code::kUnavailable, "no runtime answers on unix:///a.sock: Trying to connect an http1.x server",
       "is unix:///a.sock a CRI socket"},
      {Code::kUnimplemented, "unknown service runtime.v1.RuntimeService", "is no CRI v1 socket"},
      {Code::kUnimplemented, "the runtime does not implement this call", "crictl version"},
      {Code::kDeadlineExceeded, "no answer from unix:///a.sock in time", "-t 30s"},
      {Code::kDeadlineExceeded, "pull a:1: context deadline exceeded", "--pull-timeout"},
      {Code::kUnauthenticated, "pull a:1: the registry wants other credentials: 401", "--creds USER:PASSWORD"},
      {Code::kUnauthenticated, "http://a asks for a user name", "--creds USER:PASSWORD"},
      {Code::kUnknown, "pull a:1: failed to authorize: 401 Unauthorized", "--creds USER:PASSWORD"},
      {Code::kUnknown, "pull a:1: unexpected status code 401", "--creds USER:PASSWORD"},
      {Code::kUnknown, "pull a:1: unexpected status code 429", "limits pulls"},
      {Code::kUnknown, "failed to kill container \"cab401\": of pod 9eb4012ea429f: ttrpc: closed", "journalctl"},
      {Code::kFailedPrecondition, "remove image a:1: image is in use by 2 containers", "rmi --prune"},
      {Code::kFailedPrecondition, "container a is running", "-f"},
      {Code::kInvalidArgument, "2 pods have the id or name \"a\": say more of the id", "--no-trunc"},
      {Code::kNotFound, "no container has the id or name \"a\"", "crictl ps -a"},
      {Code::kNotFound, "no pod has the id or name \"a\"", "crictl pods"},
      {Code::kNotFound, "no such image: a:1", "crictl pull IMAGE"},
      {Code::kNotFound, "open /no/file: no such file or directory", "path"},
      {Code::kInvalidArgument, "unknown output format \"xml\"", "crictl help ps"},
      {Code::kInternal, "mount overlay: EINVAL", "journalctl"},
  };
  for (const auto& one : kCases) EXPECT_THAT(Hint(one.code, one.message), HasSubstr(one.hint)) << one.message;
}

TEST(Hint, NoPlaceIsLeftOpen) {
  EXPECT_THAT(HintFor(Error(Code::kPermissionDenied, "open x"), {.program = "crispctl"}), Not(HasSubstr("{")));
  EXPECT_EQ(HintFor(Error(Code::kPermissionDenied, "open x"), {.program = "crispctl"}),
            "call it as root: sudo crispctl");
}

TEST(NearMisses, PartsAndSlipsOfTheHandTheNearestFirst) {
  const std::vector<std::string> known = {"web", "webserver", "database", "0123456789abc", "web"};
  EXPECT_THAT(NearMisses("wbe", known), ElementsAre("web"));
  EXPECT_THAT(NearMisses("webs", known), ElementsAre("web", "webserver"));
  EXPECT_THAT(NearMisses("databse", known), ElementsAre("database"));
  EXPECT_THAT(NearMisses("0123456789abd", known), ElementsAre("0123456789abc"));
  EXPECT_THAT(NearMisses("nothing", known), IsEmpty());
  EXPECT_THAT(NearMisses("", {"a"}, 3), ElementsAre("a"));
  EXPECT_EQ(NearMisses("web", {"web1", "web2", "web3", "web4"}, 2).size(), 2u);
}

TEST(NearMisses, AsAQuestion) {
  EXPECT_EQ(DidYouMean({}), "");
  EXPECT_EQ(DidYouMean({"a"}), ", did you mean \"a\"?");
  EXPECT_EQ(DidYouMean({"a", "b", "c"}), ", did you mean \"a\", \"b\" or \"c\"?");
}

}  // namespace
}  // namespace crisp::ctl
