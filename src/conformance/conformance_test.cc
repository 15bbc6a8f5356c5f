// The parts of crisptest that need no runtime: faults, documents, images, reports, and a proxy between two ends of our
// own.
#include <gmock/gmock.h>

#include <cstdlib>

#include "base/strings.h"
#include "conformance/fault.h"
#include "conformance/images.h"
#include "conformance/registry.h"
#include "conformance/report.h"
#include "conformance/schema.h"
#include "conformance/stream.h"

namespace crisp::conformance {
namespace {

using testing::HasSubstr;

TEST(Fault, IsParsed) {
  auto faults = ParseFaults(
      "Version:fail=UNAVAILABLE; Status:-status.conditions.0; RunPodSandbox<config.hostname=a b; X:late=20; Y:n=3; "
      "Z:lose=T");
  ASSERT_TRUE(faults) << faults.error().message();
  ASSERT_EQ(faults->size(), 6u);
  EXPECT_EQ((*faults)[0].kind, Fault::Kind::kFail);
  EXPECT_EQ((*faults)[0].text, "UNAVAILABLE");
  EXPECT_EQ((*faults)[1].kind, Fault::Kind::kReply);
  EXPECT_EQ((*faults)[1].path, "status.conditions.0");
  EXPECT_FALSE((*faults)[1].value);
  EXPECT_EQ((*faults)[2].kind, Fault::Kind::kRequest);
  EXPECT_EQ(*(*faults)[2].value, "a b");
  EXPECT_EQ(*(*faults)[4].value, 3);
  EXPECT_EQ((*faults)[5].kind, Fault::Kind::kLose);
  for (const char* bad : {"Version", ":fail", "Version:", "Version:path"}) EXPECT_FALSE(ParseFaults(bad)) << bad;
}

TEST(Fault, ChangesADocument) {
  auto apply = [](const char* fault, Json document) {
    (void)Apply((*ParseFaults(fault))[0], document);
    return document;
  };
  const Json document = {{"list", {{{"a", 1}}, {{"a", 2}}}}, {"b", {{"c", "text"}}}};
  EXPECT_EQ(apply("R:list.*.a=7", document)["list"], Json({{{"a", 7}}, {{"a", 7}}}));
  EXPECT_EQ(apply("R:-list.0", document)["list"], Json({{{"a", 2}}}));
  EXPECT_EQ(apply("R:-b.c", document)["b"], Json::object());
  EXPECT_EQ(apply("R:new.field=true", document)["new"]["field"], true);
  EXPECT_EQ(apply("R:-not.there", document), document);
}

TEST(Schema, DocumentsSurviveTheWire) {
  const Json request = {
      {"pod_sandbox_id", "p"},
      {"config",
       {{"metadata", {{"name", "n"}, {"attempt", 3}}},
        {"envs", {{{"key", "K"}, {"value", std::string("\xff\0x", 3)}}}},
        {"labels", {{"a.b/c", "v"}}},
        {"stop_signal", "SIGNAL_SIGTERM"},
        {"linux", {{"security_context", {{"run_as_user", {{"value", 5}}}, {"supplemental_groups", {1, 2}}}}}}}}};
  auto bytes = Schema::Get().Encode("runtime.v1.CreateContainerRequest", request);
  ASSERT_TRUE(bytes) << bytes.error().message();
  auto back = Schema::Get().Decode("runtime.v1.CreateContainerRequest", *bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ((*back)["config"]["envs"], request["config"]["envs"]);
  EXPECT_EQ((*back)["config"]["labels"], request["config"]["labels"]);
  EXPECT_EQ((*back)["config"]["stop_signal"], "SIGNAL_SIGTERM");
  EXPECT_EQ((*back)["config"]["linux"]["security_context"]["run_as_user"]["value"], 5);
  EXPECT_EQ((*back)["config"]["tty"], false) << "scalars are there even when they were not sent";
  EXPECT_FALSE(back->contains("sandbox_config")) << "messages only when they were";
  EXPECT_EQ((*back)["config"]["mounts"], Json::array());
}

TEST(Schema, RefusesWhatTheMessageDoesNotHave) {
  auto encode = [](const Json& value) { return Schema::Get().Encode("runtime.v1.ExecSyncRequest", value); };
  EXPECT_THAT(encode({{"command", "x"}}).error().message(), HasSubstr("no field command"));
  EXPECT_THAT(encode({{"cmd", "x"}}).error().message(), HasSubstr("wrong kind"));
  EXPECT_THAT(encode({{"timeout", "1"}}).error().message(), HasSubstr("wrong kind"));
  EXPECT_EQ(Schema::Get().methods().size(), 43u);
  EXPECT_TRUE(Schema::Get().FindMethod("GetContainerEvents")->streaming);
  EXPECT_TRUE(Schema::Get().FindMethod("PullImage")->image_service);
}

TEST(Registry, ServesWellAndBadly) {
  auto images = BuildImages("/bin/busybox");
  if (!images) GTEST_SKIP() << images.error().message();
  Registry registry(*std::move(images));
  ASSERT_TRUE(registry.Start());
  auto get = [&registry](const std::string& path, const std::string& more = "") {
    auto answer =
        TcpOnce("127.0.0.1", registry.port(), StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", more, "\r\nBAD\r\n\r\n"),
                std::chrono::seconds(10));
    return answer ? *answer : answer.error().message();
  };
  EXPECT_THAT(get("/v2/"), AllOf(HasSubstr("401"), HasSubstr("Basic")));
  EXPECT_THAT(get("/v2/", "Authorization: Basic Og==\r\n"), HasSubstr("200"));
  const BuiltImage& busybox = registry.images().images.at("busybox");
  EXPECT_THAT(get("/v2/crisptest/busybox/manifests/any"), HasSubstr(busybox.manifest));
  EXPECT_THAT(get("/v2/crisptest/busybox/x/manifests/" + busybox.manifest_digest), HasSubstr(busybox.config_digest));
  EXPECT_THAT(get("/v2/crisptest/missing/manifests/v1"), HasSubstr("404"));
  EXPECT_THAT(get("/v2/crisptest/unavailable/manifests/v1"), HasSubstr("503"));
  EXPECT_THAT(get("/v2/crisptest/private/manifests/v1"), HasSubstr("401"));
  EXPECT_THAT(get("/v2/crisptest/private/manifests/v1", "Authorization: Basic Y3Jpc3A6b3BlbiBzZXNhbWU=\r\n"),
              HasSubstr("200"));
  EXPECT_NE(get("/v2/crisptest/small/a/manifests/1"), get("/v2/crisptest/small/a/manifests/2"));
  EXPECT_EQ(get("/v2/crisptest/tags/a/manifests/1"), get("/v2/crisptest/tags/a/manifests/2"));
  auto tls = TcpOnce("127.0.0.1", registry.port(), "\x16\x03\x01\x02", std::chrono::seconds(10));
  EXPECT_THAT(tls ? *tls : "", HasSubstr("HTTP/1.1 400")) << "who tries TLS is answered in HTTP, at once";
}

TEST(Registry, ListensWhereItIsToldTo) {
  Registry any({}), same({}), elsewhere({}), none({});
  ASSERT_TRUE(any.Start());
  auto taken = same.Start(any.host());
  EXPECT_THAT(taken.error().message(), HasSubstr(any.host()));
  EXPECT_EQ(elsewhere.Start("0.0.0.0:0").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(none.Start("127.0.0.1:").error().code(), Code::kInvalidArgument);
}

Json Document() {
  return {{"suite", "crisptest"},
          {"version", "1"},
          {"kind", "validation"},
          {"label", ""},
          {"started", 10.0},
          {"finished", 12.5},
          {"runtime",
           {{"name", "r<1>"}, {"version", "2"}, {"api_version", "v1"}, {"handler", ""}, {"endpoint", "unix:///x"}}},
          {"host", {{"name", "h"}, {"kernel", "6"}}},
          {"benchmarks", Json::array()},
          {"specs",
           {{{"group", "G"},
             {"name", "N"},
             {"verdict", "failed"},
             {"seconds", 1.0},
             {"message", "a < b\n\x01"},
             {"like", Json::array()}}}}};
}

TEST(Report, JUnitIsXml) {
  std::string xml = JUnitReport(Document());
  EXPECT_THAT(xml, HasSubstr("tests=\"1\" failures=\"1\""));
  EXPECT_THAT(xml, HasSubstr("a &lt; b&#10;?"));
  EXPECT_THAT(xml, HasSubstr("r&lt;1&gt;"));
}

TEST(Report, PageHoldsTheDocumentsAndNoForeignMarkup) {
  Json document = Document();
  document["specs"][0]["message"] = "</script><b>";
  std::string page = HtmlReport({document});
  EXPECT_EQ(page.find("</script><b>"), std::string::npos);
  EXPECT_THAT(page, HasSubstr("\\u003c/script>\\u003cb>"));
}

}  // namespace
}  // namespace crisp::conformance
