#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <functional>

#include "base/json.h"
#include "base/strings.h"
#include "cri/call.h"
#include "cri/from_cri.h"
#include "cri/info.h"
#include "cri/signals.h"
#include "cri/to_cri.h"

namespace crisp::cri {
namespace {

using testing::HasSubstr;

v1::RunPodSandboxRequest GoodSandbox() {
  v1::RunPodSandboxRequest request;
  v1::PodSandboxConfig& config = *request.mutable_config();
  config.mutable_metadata()->set_name("web");
  config.mutable_metadata()->set_namespace_("default");
  config.mutable_metadata()->set_uid("u-1");
  config.mutable_metadata()->set_attempt(3);
  config.set_hostname("web-host");
  config.set_log_directory("/var/log/pods/x");
  config.mutable_linux()->set_cgroup_parent("/kubepods/podu-1");
  return request;
}

v1::CreateContainerRequest GoodContainer() {
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id("p");
  v1::ContainerConfig& config = *request.mutable_config();
  config.mutable_metadata()->set_name("main");
  config.mutable_image()->set_image("busybox");
  return request;
}

// What must be refused, and the field that the message must name.
struct BadSandbox {
  const char* field;
  std::function<void(v1::PodSandboxConfig&)> spoil;
};

const std::string kNul("a\0b", 3);

TEST(FromCri, BadSandboxesAreRefusedByField) {
  BadSandbox rows[] = {
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(""); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(".."); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name("."); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name("a/b"); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name("../../etc"); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(kNul); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name("a\nb"); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(std::string(4096, 'n')); }},
      {"metadata.namespace", [](auto& c) { c.mutable_metadata()->set_namespace_(""); }},
      {"metadata.uid", [](auto& c) { c.mutable_metadata()->set_uid(""); }},
      {"metadata.namespace", [](auto& c) { c.mutable_metadata()->set_namespace_("a/../b"); }},
      {"metadata.namespace", [](auto& c) { c.mutable_metadata()->set_namespace_(std::string(4096, 'n')); }},
      {"metadata.uid", [](auto& c) { c.mutable_metadata()->set_uid(".."); }},
      {"metadata.uid", [](auto& c) { c.mutable_metadata()->set_uid(kNul); }},
      {"hostname", [](auto& c) { c.set_hostname(std::string(65, 'h')); }},
      {"hostname", [](auto& c) { c.set_hostname("a\nb"); }},
      {"hostname", [](auto& c) { c.set_hostname("a/b"); }},
      {"log_directory", [](auto& c) { c.set_log_directory("logs"); }},
      {"log_directory", [](auto& c) { c.set_log_directory("/var/../etc"); }},
      {"log_directory", [](auto& c) { c.set_log_directory("/" + kNul); }},
      {"log_directory", [](auto& c) { c.set_log_directory("/" + std::string(4096, 'l')); }},
      {"dns_config.servers", [](auto& c) { c.mutable_dns_config()->add_servers("1.1.1.1\nsearch evil"); }},
      {"dns_config.searches", [](auto& c) { c.mutable_dns_config()->add_searches("a b"); }},
      {"dns_config.options", [](auto& c) { c.mutable_dns_config()->add_options(kNul); }},
      {"port_mappings.container_port", [](auto& c) { c.add_port_mappings()->set_container_port(70000); }},
      {"port_mappings.container_port", [](auto& c) { c.add_port_mappings()->set_container_port(0); }},
      {"port_mappings.host_port",
       [](auto& c) {
         c.add_port_mappings()->set_container_port(1);
         c.mutable_port_mappings(0)->set_host_port(-1);
       }},
      {"port_mappings.host_ip",
       [](auto& c) {
         c.add_port_mappings()->set_container_port(1);
         c.mutable_port_mappings(0)->set_host_ip("localhost");
       }},
      {"port_mappings.protocol",
       [](auto& c) {
         c.add_port_mappings()->set_container_port(1);
         c.mutable_port_mappings(0)->set_protocol(static_cast<v1::Protocol>(9));
       }},
      {"linux.cgroup_parent", [](auto& c) { c.mutable_linux()->set_cgroup_parent(kNul); }},
      {"linux.sysctls", [](auto& c) { (*c.mutable_linux()->mutable_sysctls())["a b"] = "1"; }},
      {"linux.sysctls", [](auto& c) { (*c.mutable_linux()->mutable_sysctls())["net.x"] = kNul; }},
      {"namespace_options.pid",
       [](auto& c) {
         c.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
             static_cast<v1::NamespaceMode>(-1));
       }},
      {"run_as_user",
       [](auto& c) { c.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(-1); }},
      {"run_as_group",
       [](auto& c) { c.mutable_linux()->mutable_security_context()->mutable_run_as_group()->set_value(5); }},
      {"supplemental_groups",
       [](auto& c) { c.mutable_linux()->mutable_security_context()->add_supplemental_groups(0xffffffff); }},
      {"seccomp.localhost_ref",
       [](auto& c) {
         c.mutable_linux()->mutable_security_context()->mutable_seccomp()->set_profile_type(
             v1::SecurityProfile::Localhost);
       }},
      {"linux.resources.unified",
       [](auto& c) { (*c.mutable_linux()->mutable_resources()->mutable_unified())["../x"]; }},
      {"linux.overhead.oom_score_adj", [](auto& c) { c.mutable_linux()->mutable_overhead()->set_oom_score_adj(1001); }},
  };
  for (const BadSandbox& row : rows) {
    v1::RunPodSandboxRequest request = GoodSandbox();
    row.spoil(*request.mutable_config());
    Result<spec::SandboxConfig> config = ToSandboxConfig(request);
    ASSERT_FALSE(config) << row.field;
    EXPECT_EQ(config.error().code(), Code::kInvalidArgument) << row.field;
    EXPECT_THAT(config.error().message(), HasSubstr(row.field));
    EXPECT_LT(config.error().message().size(), 2000u) << "long input repeated";
  }
  v1::RunPodSandboxRequest handler = GoodSandbox();
  handler.set_runtime_handler("../runc");
  EXPECT_FALSE(ToSandboxConfig(handler));
}

TEST(FromCri, MissingPartsAreNamed) {
  v1::RunPodSandboxRequest run;
  EXPECT_THAT(ToSandboxConfig(run).error().message(), HasSubstr("config: missing"));
  run.mutable_config();
  EXPECT_THAT(ToSandboxConfig(run).error().message(), HasSubstr("config.metadata: missing"));
  v1::CreateContainerRequest create;
  EXPECT_THAT(ToContainerConfig(create).error().message(), HasSubstr("config: missing"));
  create.mutable_config();
  EXPECT_THAT(ToContainerConfig(create).error().message(), HasSubstr("config.metadata: missing"));
  create.mutable_config()->mutable_metadata()->set_name("c");
  EXPECT_THAT(ToContainerConfig(create).error().message(), HasSubstr("image.image: missing"));
}

struct BadContainer {
  const char* field;
  std::function<void(v1::ContainerConfig&)> spoil;
};

TEST(FromCri, BadContainersAreRefusedByField) {
  BadContainer rows[] = {
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(".."); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name("a/b"); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(kNul); }},
      {"metadata.name", [](auto& c) { c.mutable_metadata()->set_name(std::string(4096, 'c')); }},
      {"image.image", [](auto& c) { c.mutable_image()->set_image("https://user:hunter2@host/x"); }},
      {"image.image", [](auto& c) { c.mutable_image()->set_image("user:hunter2@host/x"); }},
      {"image.image", [](auto& c) { c.mutable_image()->set_image("host/x?token=hunter2"); }},
      {"image.image", [](auto& c) { c.mutable_image()->set_image(std::string(5000, 'i')); }},
      {"command", [](auto& c) { c.add_command(kNul); }},
      {"args", [](auto& c) { c.add_args(kNul); }},
      {"working_dir", [](auto& c) { c.set_working_dir(kNul); }},
      {"envs.key", [](auto& c) { c.add_envs()->set_value("x"); }},
      {"envs.key", [](auto& c) { c.add_envs()->set_key("A=B"); }},
      {"envs.value",
       [](auto& c) {
         c.add_envs()->set_key("SECRET");
         c.mutable_envs(0)->set_value("hunter2" + kNul);
       }},
      {"log_path", [](auto& c) { c.set_log_path("/etc/passwd"); }},
      {"log_path", [](auto& c) { c.set_log_path("../../etc/passwd"); }},
      {"log_path", [](auto& c) { c.set_log_path("a/../../b"); }},
      {"log_path", [](auto& c) { c.set_log_path(kNul); }},
      {"log_path", [](auto& c) { c.set_log_path(std::string(4096, 'l')); }},
      {"mounts.container_path", [](auto& c) { c.add_mounts()->set_host_path("/a"); }},
      {"mounts.host_path", [](auto& c) { c.add_mounts()->set_container_path("/a"); }},
      {"mounts.propagation",
       [](auto& c) {
         c.add_mounts()->set_container_path("/a");
         c.mutable_mounts(0)->set_host_path("/a");
         c.mutable_mounts(0)->set_propagation(static_cast<v1::MountPropagation>(3));
       }},
      {"mounts.recursive_read_only",
       [](auto& c) {
         c.add_mounts()->set_container_path("/a");
         c.mutable_mounts(0)->set_host_path("/a");
         c.mutable_mounts(0)->set_recursive_read_only(true);
       }},
      {"mounts.recursive_read_only",
       [](auto& c) {
         c.add_mounts()->set_container_path("/a");
         c.mutable_mounts(0)->set_host_path("/a");
         c.mutable_mounts(0)->set_readonly(true);
         c.mutable_mounts(0)->set_recursive_read_only(true);
         c.mutable_mounts(0)->set_propagation(v1::PROPAGATION_BIDIRECTIONAL);
       }},
      {"devices.permissions",
       [](auto& c) {
         c.add_devices()->set_host_path("/dev/null");
         c.mutable_devices(0)->set_container_path("/dev/null");
         c.mutable_devices(0)->set_permissions("rwx");
       }},
      {"stop_signal", [](auto& c) { c.set_stop_signal(static_cast<v1::Signal>(66)); }},
      {"run_as_group",
       [](auto& c) { c.mutable_linux()->mutable_security_context()->mutable_run_as_group()->set_value(5); }},
      {"masked_paths", [](auto& c) { c.mutable_linux()->mutable_security_context()->add_masked_paths(kNul); }},
      {"linux.resources", [](auto& c) { c.mutable_linux()->mutable_resources()->set_cpu_period(-5); }},
      {"CDI_devices.name", [](auto& c) { c.add_cdi_devices(); }},
  };
  for (const BadContainer& row : rows) {
    v1::CreateContainerRequest request = GoodContainer();
    row.spoil(*request.mutable_config());
    Result<spec::ContainerConfig> config = ToContainerConfig(request);
    ASSERT_FALSE(config) << row.field;
    EXPECT_EQ(config.error().code(), Code::kInvalidArgument) << row.field;
    EXPECT_THAT(config.error().message(), HasSubstr(row.field));
    EXPECT_THAT(config.error().message(), testing::Not(HasSubstr("hunter2"))) << "a secret in an error";
  }
}

TEST(FromCri, GoodOnesKeepEverything) {
  v1::RunPodSandboxRequest request = GoodSandbox();
  (*request.mutable_config()->mutable_labels())["l"] = std::string(100'000, 'v');
  request.mutable_config()->mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      v1::CONTAINER);
  request.set_runtime_handler("crun");
  Result<spec::SandboxConfig> config = ToSandboxConfig(request);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->metadata, (spec::SandboxMetadata{"web", "u-1", "default", 3}));
  EXPECT_EQ(config->labels["l"].size(), 100'000u);
  EXPECT_EQ(config->security.namespaces.pid, spec::NamespaceMode::kContainer);
  EXPECT_EQ(config->runtime_handler, "crun");
  EXPECT_FALSE(config->has_dns);

  pod::SandboxStatus status;
  status.config = *config;
  status.ips = {"10.0.0.1", "fd00::1"};
  v1::PodSandboxStatus back = SandboxStatusToCri(status);
  EXPECT_EQ(back.metadata().attempt(), 3u);
  EXPECT_EQ(back.linux().namespaces().options().pid(), v1::CONTAINER);
  EXPECT_EQ(back.network().ip(), "10.0.0.1");
  ASSERT_EQ(back.network().additional_ips_size(), 1);
  EXPECT_EQ(back.network().additional_ips(0).ip(), "fd00::1");
}

TEST(FromCri, ContainerStatusEchoesTheConfig) {
  v1::CreateContainerRequest request = GoodContainer();
  v1::ContainerConfig& in = *request.mutable_config();
  in.mutable_image()->set_image("sha256:" + std::string(64, 'b'));
  in.mutable_image()->set_user_specified_image("busybox:1");
  v1::Mount* mount = in.add_mounts();
  mount->set_container_path("/data");
  mount->set_host_path("/srv");
  mount->set_readonly(true);
  mount->set_propagation(v1::PROPAGATION_HOST_TO_CONTAINER);
  in.set_stop_signal(v1::SIGNAL_SIGUSR1);
  in.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(1 << 20);
  in.add_envs()->set_key("K");
  in.mutable_envs(0)->set_value("\xff\xfe");  // bytes, not text
  Result<spec::ContainerConfig> config = ToContainerConfig(request);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->stop_signal, SIGUSR1);
  EXPECT_EQ(config->envs[0].value, "\xff\xfe");

  pod::ContainerStatus status;
  status.config = *config;
  status.image_id = "sha256:" + std::string(64, 'b');
  status.resources = config->resources;
  status.stop_signal = config->stop_signal;
  v1::ContainerStatus back = ContainerStatusToCri(status);
  EXPECT_EQ(back.image().image(), "busybox:1");
  EXPECT_EQ(back.image_ref(), status.image_id) << "an image without a repo digest, like an imported one";
  EXPECT_EQ(back.image_id(), status.image_id);
  ASSERT_EQ(back.mounts_size(), 1);
  EXPECT_EQ(back.mounts(0).SerializeAsString(), mount->SerializeAsString());
  EXPECT_EQ(back.resources().linux().memory_limit_in_bytes(), 1 << 20);
  EXPECT_EQ(back.stop_signal(), v1::SIGNAL_SIGUSR1);

  status.image_digest_ref = "docker.io/library/busybox@sha256:" + std::string(64, 'c');
  EXPECT_EQ(ContainerStatusToCri(status).image_ref(), status.image_digest_ref);
  EXPECT_EQ(ContainerStatusToCri(status).image_id(), status.image_id);
  EXPECT_EQ(ContainerToCri(status).image_ref(), status.image_id) << "lists name images by id";
}

TEST(ToCri, ImageUsers) {
  struct {
    const char* user;
    std::optional<int64_t> uid;
    const char* name;
  } rows[] = {{"", {}, ""},         {"1002", 1002, ""}, {"1002:5", 1002, ""},
              {"www:5", {}, "www"}, {"0", 0, ""},       {":5", {}, ""}};
  for (const auto& row : rows) {
    image::Image image;
    image.config.user = row.user;
    v1::Image out = ImageToCri(image);
    EXPECT_EQ(out.has_uid(), row.uid.has_value()) << row.user;
    if (row.uid) {
      EXPECT_EQ(out.uid().value(), *row.uid);
    }
    EXPECT_EQ(out.username(), row.name) << row.user;
  }
}

TEST(Signals, GoThereAndBack) {
  EXPECT_EQ(*SignalFromCri(0), 0);
  EXPECT_EQ(*SignalFromCri(v1::SIGNAL_SIGTERM), SIGTERM);
  EXPECT_EQ(*SignalFromCri(v1::SIGNAL_SIGRTMIN), 34);
  EXPECT_EQ(*SignalFromCri(v1::SIGNAL_SIGRTMAXMINUS14), 50);
  EXPECT_EQ(*SignalFromCri(v1::SIGNAL_SIGRTMAX), 64);
  for (int cri = 1; cri <= 65; ++cri) {
    Result<int> number = SignalFromCri(cri);
    ASSERT_TRUE(number) << cri;
    EXPECT_EQ(*SignalFromCri(SignalToCri(*number)), *number) << cri;
  }
  EXPECT_FALSE(SignalFromCri(66));
  EXPECT_FALSE(SignalFromCri(-1));
  EXPECT_EQ(SignalToCri(0), 0);
  EXPECT_EQ(SignalToCri(200), 0);
}

TEST(Info, IsJsonAlsoWithHostileBytes) {
  pod::ContainerStatus container;
  container.bundle_dir = "/nonexistent";
  container.config.labels["\xff"] = "\"\n";
  container.pid = 42;
  Result<Json> info = ParseJson(ContainerInfo(container)["info"], "info");
  ASSERT_TRUE(info);
  EXPECT_EQ((*info)["pid"], 42);
  pod::SandboxStatus sandbox;
  sandbox.network_result = "not json";
  EXPECT_TRUE(ParseJson(SandboxInfo(sandbox)["info"], "info"));
  EXPECT_TRUE(ParseJson(ImageInfo(image::Image())["info"], "info"));
}

TEST(LogName, HidesWhatMayBeASecret) {
  EXPECT_EQ(LogName("quay.io/a/b:1"), "quay.io/a/b:1");
  std::string digest = "a@sha256:" + std::string(64, 'c');
  EXPECT_EQ(LogName(digest), digest);
  for (const char* text : {"user:hunter2@host/x", "https://user:hunter2@host", "host/x?t=hunter2"}) {
    EXPECT_EQ(LogName(text).find("hunter2"), std::string::npos) << text;
  }
  EXPECT_LT(LogName(std::string(10'000, 'x')).size(), 300u);
}

}  // namespace
}  // namespace crisp::cri
