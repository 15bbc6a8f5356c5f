// A small pod and container to start a planning test from.
#pragma once

#include "spec/plan.h"

namespace crisp::spec::testing {

inline PodId SomePod() { return PodId::Parse(std::string(64, 'a')).value(); }

inline NodeFacts SomeNode() {
  NodeFacts node;
  node.hostname = "node-1";
  node.resolv_conf = "nameserver 10.0.0.2\n";
  node.hosts = "127.0.0.1 localhost\n";
  node.arch = "amd64";
  node.cgroup_controllers = {"cpu", "cpuset", "hugetlb", "memory", "pids"};
  node.hugepage_sizes = {"2MB", "1GB"};
  node.swap_accounting = true;
  return node;
}

inline SandboxConfig SomeSandbox() {
  SandboxConfig sandbox;
  sandbox.metadata = {.name = "web-0", .uid = "uid-1", .pod_namespace = "shop"};
  sandbox.hostname = "web-0";
  return sandbox;
}

inline ContainerInputs SomeInputs() {
  ContainerInputs in;
  in.sandbox = SomeSandbox();
  in.config.metadata = {.name = "app"};
  in.config.security.namespaces.pid = NamespaceMode::kContainer;
  in.pod_id = SomePod();
  in.id = ContainerId::Parse(std::string(64, 'c')).value();
  in.image_name = "docker.io/library/busybox:latest";
  in.image = {.entrypoint = {"/entry"}, .cmd = {"serve"}, .env = {"PATH=/bin", "A=image"}};
  in.user = {.uid = 0, .gid = 0, .additional_gids = {0}, .home = "/root"};
  in.rootfs = "/run/crisp/containers/c/rootfs";
  in.cgroups_path = "/kubepods/pod1/c";
  in.namespaces = {.net = "/run/netns/x", .ipc = "/proc/7/ns/ipc", .uts = "/proc/7/ns/uts", .pid = ""};
  in.files = {.resolv_conf = "/run/crisp/pods/a/resolv.conf",
              .hosts = "/run/crisp/pods/a/hosts",
              .hostname = "/run/crisp/pods/a/hostname",
              .shm_dir = "/run/crisp/pods/a/shm"};
  return in;
}

}  // namespace crisp::spec::testing
