// Hooks: where others follow and change what pods and containers become: NRI plugins (src/nri), which are made after
// the manager and above it. The manager calls, holding the object's operation lock; an implementation may take seconds,
// and bounds that itself. Lists and statuses never come here. Threading: any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "pod/manager.h"

namespace crisp::pod {

class Hooks {
 public:
  virtual ~Hooks() = default;

  // A verb holds a pass from its first hook until the record shows what it has done. While any is out, no plugin is
  // brought up to date: so each plugin learns of each object, either then or by a hook. An error: not to be had in
  // time.
  using Pass = std::shared_ptr<const void>;
  virtual Result<Pass> Enter(const Ctx& ctx) = 0;

  // An error refuses the verb. The pod stands already, but nobody has seen it.
  virtual Result<> RunSandbox(const Ctx& ctx, const SandboxStatus& pod) = 0;
  virtual Result<> UpdateSandbox(const Ctx& ctx, const SandboxStatus& pod, const Resources& overhead,
                                 const Resources& resources) = 0;
  virtual void PostUpdateSandbox(const Ctx& ctx, const SandboxStatus& pod) = 0;
  // Its containers have ended, its network is still there.
  // These, and those of containers below, enter by themselves: the caller has no pass. Removals give theirs back, to be
  // held until the object is not listed any more.
  virtual void StopSandbox(const Ctx& ctx, const SandboxStatus& pod) = 0;
  virtual Pass RemoveSandbox(const Ctx& ctx, const SandboxStatus& pod) = 0;

  struct Adjusted {
    std::string config_json;
    std::vector<std::string> cdi_devices;  // still to be injected
  };
  virtual Result<Adjusted> CreateContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container,
                                           const std::string& config_json) = 0;
  virtual void PostCreateContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
  virtual Result<> StartContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
  virtual void PostStartContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
  // `resources_json` (OCI linux.resources) is what shall be set; the answer replaces it.
  virtual Result<std::string> UpdateContainer(const Ctx& ctx, const SandboxStatus& pod,
                                              const ContainerStatus& container, const std::string& resources_json) = 0;
  virtual void PostUpdateContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
  // It has ended, by itself or stopped. Once for each container that was started.
  virtual void StopContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
  virtual Pass RemoveContainer(const Ctx& ctx, const SandboxStatus& pod, const ContainerStatus& container) = 0;
};

// Nobody follows.
class NoHooks final : public Hooks {
 public:
  Result<Pass> Enter(const Ctx&) override { return Pass(); }
  Result<> RunSandbox(const Ctx&, const SandboxStatus&) override { return {}; }
  Result<> UpdateSandbox(const Ctx&, const SandboxStatus&, const Resources&, const Resources&) override { return {}; }
  void PostUpdateSandbox(const Ctx&, const SandboxStatus&) override {}
  void StopSandbox(const Ctx&, const SandboxStatus&) override {}
  Pass RemoveSandbox(const Ctx&, const SandboxStatus&) override { return {}; }
  Result<Adjusted> CreateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&,
                                   const std::string& config_json) override {
    return Adjusted{config_json, {}};
  }
  void PostCreateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override {}
  Result<> StartContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override { return {}; }
  void PostStartContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override {}
  Result<std::string> UpdateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&,
                                      const std::string& resources_json) override {
    return resources_json;
  }
  void PostUpdateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override {}
  void StopContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override {}
  Pass RemoveContainer(const Ctx&, const SandboxStatus&, const ContainerStatus&) override { return {}; }
};

}  // namespace crisp::pod
