// AppArmor profiles, by the three forms of the request that critest tries.
#include <unistd.h>

#include "base/context.h"
#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::conformance {
namespace {

constexpr const char* kDenyWrite = "crisptest-deny-write";
constexpr const char* kPermissive = "crisptest-permissive";

class AppArmor : public Spec {
 protected:
  void NeedsAppArmor() {
    auto enabled = sys::ReadFile("/sys/module/apparmor/parameters/enabled");
    if (!enabled || !enabled->starts_with('Y')) throw Unsupported("this machine has no AppArmor");
    std::string rules = StrCat("#include <tunables/global>\nprofile ", kDenyWrite,
                               " flags=(attach_disconnected) {\n  file,\n  deny /** w,\n}\n", "profile ", kPermissive,
                               " flags=(attach_disconnected) {\n  file,\n  network,\n  capability,\n}\n");
    auto loaded = sys::Run({}, {.program = "apparmor_parser", .args = {"-Kr"}}, {.input = rules});
    if (!loaded || loaded->status.code != 0) throw Unsupported("apparmor_parser does not load profiles here");
  }
  enum class Form { kDeprecated, kField, kBoth };
  Json Profile(Form form, const std::string& name) {
    Json security = Json::object();
    if (form != Form::kField)
      security["apparmor_profile"] = form == Form::kBoth ? "localhost/not-to-be-used" : "localhost/" + name;
    if (form != Form::kDeprecated) security["apparmor"] = {{"profile_type", "Localhost"}, {"localhost_ref", name}};
    return {{"linux", {{"security_context", security}}}};
  }
  void UnloadedIsRefused(Form form) {
    NeedsAppArmor();
    MustNotRun(RunPod(), Profile(form, "crisptest-not-loaded"));
  }
  void Enforced(Form form) {
    NeedsAppArmor();
    EXPECT_NE(Exec(Run(RunPod(), Profile(form, kDenyWrite)), {"/bin/touch", "/tmp/file"}).code, 0);
  }
  void Permitted(Form form) {
    NeedsAppArmor();
    EXPECT_EQ(Exec(Run(RunPod(), Profile(form, kPermissive)), {"/bin/touch", "/tmp/file"}).code, 0);
  }
};

#define APPARMOR_SPEC(name_, call_, ...)                                                     \
  class AppArmor_##name_ : public AppArmor {                                                 \
   protected:                                                                                \
    void Body() override { call_; }                                                          \
  };                                                                                         \
  static const bool registered_apparmor_##name_ =                                            \
      internal::Register({"AppArmor", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<AppArmor_##name_>)

const std::string kIgnored =
    "CreateContainer<-config.linux.security_context.apparmor; "
    "CreateContainer<-config.linux.security_context.apparmor_profile";
const std::string kDenied =
    "CreateContainer<config.linux.security_context.apparmor.localhost_ref=crisptest-deny-write; "
    "CreateContainer<config.linux.security_context.apparmor.profile_type=Localhost";

APPARMOR_SPEC(DeprecatedFieldUnloadedIsRefused, UnloadedIsRefused(Form::kDeprecated), .like = {70},
              .faults = {kIgnored});
APPARMOR_SPEC(DeprecatedFieldEnforced, Enforced(Form::kDeprecated), .like = {71}, .faults = {kIgnored});
APPARMOR_SPEC(DeprecatedFieldPermitted, Permitted(Form::kDeprecated), .like = {72}, .faults = {kDenied});
APPARMOR_SPEC(FieldUnloadedIsRefused, UnloadedIsRefused(Form::kField), .like = {73}, .faults = {kIgnored});
APPARMOR_SPEC(FieldEnforced, Enforced(Form::kField), .like = {74}, .faults = {kIgnored});
APPARMOR_SPEC(FieldPermitted, Permitted(Form::kField), .like = {75}, .faults = {kDenied});
APPARMOR_SPEC(FieldBeforeDeprecatedUnloadedIsRefused, UnloadedIsRefused(Form::kBoth), .like = {76},
              .faults = {kIgnored});
APPARMOR_SPEC(FieldBeforeDeprecatedEnforced, Enforced(Form::kBoth), .like = {77}, .faults = {kIgnored});
APPARMOR_SPEC(FieldBeforeDeprecatedPermitted, Permitted(Form::kBoth), .like = {78}, .faults = {kDenied});

}  // namespace
}  // namespace crisp::conformance
