// What a runtime says about itself.
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

SPEC(RuntimeInfo, SaysNameAndVersion, .like = {113},
     .faults = {"Version:runtime_name=", "Version:-runtime_version", "Version:fail"}) {
  Json version = Call("Version", {{"version", "v1"}});
  EXPECT_NE(version["version"], "");
  EXPECT_NE(version["runtime_name"], "");
  EXPECT_NE(version["runtime_version"], "");
  EXPECT_NE(version["runtime_api_version"], "");
}

SPEC(RuntimeInfo, IsReadyWithNetwork, .like = {114},
     .faults = {"Status:status.conditions.0.status=false", "Status:-status.conditions"}) {
  int found = 0;
  Json status = Call("Status");
  for (const Json& condition : status["status"]["conditions"]) {
    if (condition.at("type") != "RuntimeReady" && condition.at("type") != "NetworkReady") continue;
    ++found;
    EXPECT_EQ(condition.at("status"), true)
        << condition.at("type") << ": " << condition.at("reason") << " " << condition.at("message");
  }
  EXPECT_EQ(found, 2) << "conditions RuntimeReady and NetworkReady";
}

}  // namespace
}  // namespace crisp::conformance
