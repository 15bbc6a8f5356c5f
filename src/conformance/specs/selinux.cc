// SELinux labels of processes and mounts, as critest asks for them: of an ordinary pod and of a privileged one.
#include <regex>

#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

enum class Kind { kOrdinary, kPrivileged };

class SELinux : public Spec {
 protected:
  Pod RunPodOf(Kind kind) {
    if (!sys::ReadFile("/sys/fs/selinux/enforce")) throw Unsupported("this machine has no SELinux");
    return kind == Kind::kPrivileged ? RunPod({{"linux", {{"security_context", {{"privileged", true}}}}}}) : RunPod();
  }
  static Json Config(Kind kind, const Json& options = nullptr) {
    Json security = {{"privileged", kind == Kind::kPrivileged}};
    if (!options.is_null()) security["selinux_options"] = options;
    return {{"linux", {{"security_context", security}}}};
  }
  std::string RunOf(const Pod& pod, Kind kind) { return Run(pod, Config(kind)); }
  std::string ProcessLabel(const std::string& container) {
    std::string label = Sh(container, "cat /proc/self/attr/current");
    return label.substr(0, label.find_first_of(std::string_view("\0\n", 2)));
  }
  // Of an ordinary container: level s0 and two categories or more. Of a privileged one: every category is allowed.
  std::string CategorizedLabel(const std::string& container, Kind kind) {
    static const std::regex ordinary(".*:s0(-s0)?:c[0-9]+(,c[0-9]+)+"), privileged(".*:s0(-s0)?(:c0\\.c1023)?");
    std::string label = ProcessLabel(container);
    EXPECT_TRUE(std::regex_match(label, kind == Kind::kPrivileged ? privileged : ordinary)) << label;
    return label;
  }

  void MayWrite(Kind kind, const Json& options) { Sh(Run(RunPodOf(kind), Config(kind, options)), "touch foo"); }
  void LevelAlone(Kind kind) { MayWrite(kind, {{"level", "s0"}}); }
  void AllOptions(Kind kind) {
    MayWrite(kind, {{"user", "system_u"}, {"role", "system_r"}, {"type", "svirt_lxc_net_t"}, {"level", "s0:c4,c5"}});
  }
  void WrongLevelIsRefused(Kind kind) {
    Pod pod = RunPodOf(kind);
    Json wrong = {{"user", "system_u"}, {"role", "system_r"}, {"type", "svirt_lxc_net_t"}, {"level", "s0,c4,c5"}};
    EXPECT_FALSE(TryCreate(pod, Config(kind, wrong))) << "CreateContainer takes the level s0,c4,c5";
  }
  void MountLabelHasTheType(Kind kind) {
    std::string mounts = Sh(RunOf(RunPodOf(kind), kind), "cat /proc/1/mountinfo");
    EXPECT_NE(mounts.find(":object_r:container_file_t:"), std::string::npos) << mounts;
  }
  void MountLabelHasCategories(Kind kind) {
    static const std::regex context(",context=\"[^\"]*:s0(-s0)?:c[0-9]+(,c[0-9]+)+\",");
    std::string mounts = Sh(RunOf(RunPodOf(kind), kind), "cat /proc/1/mountinfo");
    EXPECT_TRUE(std::regex_search(mounts, context)) << mounts;
  }
  void ProcessLabelHasTheType(Kind kind) {
    std::string label = ProcessLabel(RunOf(RunPodOf(kind), kind));
    const char* wanted = kind == Kind::kPrivileged ? ":system_r:spc_t:" : ":system_r:container_t:";
    EXPECT_NE(label.find(wanted), std::string::npos) << label;
  }
  void ProcessLabelHasCategories(Kind kind) { CategorizedLabel(RunOf(RunPodOf(kind), kind), kind); }
  void ContainersOfAPodShareALabel(Kind kind) {
    Pod pod = RunPodOf(kind);
    std::string one = Create(pod, Merged(Config(kind), {{"metadata", {{"name", "one"}}}}));
    std::string two = Create(pod, Merged(Config(kind), {{"metadata", {{"name", "two"}}}}));
    EXPECT_EQ(CategorizedLabel(Start(one), kind), CategorizedLabel(Start(two), kind));
  }
};

#define SELINUX_SPEC(name_, ...)                                                            \
  class SELinux_##name_ : public SELinux {                                                  \
   protected:                                                                               \
    void Body() override;                                                                   \
  };                                                                                        \
  static const bool registered_selinux_##name_ =                                            \
      internal::Register({"SELinux", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<SELinux_##name_>);          \
  void SELinux_##name_::Body()

// A spec for an ordinary pod, and for a privileged one; critest has eight specs of each.
#define SELINUX_SPECS(name_, number_, ...)                                                    \
  SELINUX_SPEC(name_, .like = {number_}, .faults = {__VA_ARGS__}) { name_(Kind::kOrdinary); } \
  SELINUX_SPEC(Privileged##name_, .like = {number_ + 8}, .faults = {__VA_ARGS__}) { name_(Kind::kPrivileged); }

constexpr const char* kExecPrints = "ExecSync<cmd=[\"/bin/echo\",\"kernel\"]";

SELINUX_SPECS(LevelAlone, 143, "StartContainer:noop")
SELINUX_SPECS(AllOptions, 144, "StartContainer:noop")
SELINUX_SPECS(WrongLevelIsRefused, 145, "CreateContainer<-config.linux.security_context.selinux_options")
SELINUX_SPECS(MountLabelHasTheType, 146, kExecPrints)
SELINUX_SPECS(MountLabelHasCategories, 147, kExecPrints)
SELINUX_SPECS(ProcessLabelHasTheType, 148, kExecPrints)
SELINUX_SPECS(ProcessLabelHasCategories, 149, kExecPrints)
SELINUX_SPECS(ContainersOfAPodShareALabel, 150, kExecPrints)

SELINUX_SPEC(PodsHaveLabelsOfTheirOwn, .like = {159},
             .faults = {"ExecSync<cmd=[\"/bin/echo\",\"u:system_r:container_t:s0:c1,c2\"]"}) {
  Pod one = RunPodOf(Kind::kOrdinary), two = RunPodOf(Kind::kOrdinary);
  EXPECT_NE(CategorizedLabel(RunOf(one, Kind::kOrdinary), Kind::kOrdinary),
            CategorizedLabel(RunOf(two, Kind::kOrdinary), Kind::kOrdinary));
}

}  // namespace
}  // namespace crisp::conformance
