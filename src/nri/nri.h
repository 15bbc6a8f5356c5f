// Nri: the node resource interface: external programs, plugins, follow pods and containers and adjust them. The
// manager's hooks on one side; on the other a socket where plugins register, and plugins that we start ourselves.
//
// Threading: hooks from any thread; plugins are told one event at a time, in the order of their indices. Two threads
// for each plugin (one reads, one brings it up to date and serves its calls), one that accepts. A plugin that fails is
// dropped and never started again, as with other runtimes; events go on without it. Each wait is bounded by the
// time-outs of the options, and lists and statuses of the manager never come here.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nri/collector.h"
#include "nri/gate.h"
#include "nri/plugin.h"
#include "pod/hooks.h"

namespace crisp::nri {

struct Options {
  std::string socket;             // "": no external plugins
  std::string plugin_dir;         // programs NN-NAME; need not exist
  std::string plugin_config_dir;  // NN-NAME.conf or NAME.conf
  Timeouts timeouts;
};

class Nri final : public pod::Hooks {
 public:
  explicit Nri(Options options);
  // Tells plugins that we are going, ends those that we have started.
  ~Nri() override;

  // Starts plugins and listens. `pods` outlives Stop. Returns at once: until the plugins of the directory are ready or
  // have failed, hooks wait. A socket that somebody else serves is left to them, with a warning.
  void Start(pod::Manager& pods);
  // No plugin calls the manager any more when it returns.
  void Stop();

  Result<Pass> Enter(const Ctx& ctx) override { return gate_->Enter(ctx); }
  Result<> RunSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) override;
  Result<> UpdateSandbox(const Ctx& ctx, const pod::SandboxStatus& pod, const spec::Resources& overhead,
                         const spec::Resources& resources) override;
  void PostUpdateSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) override;
  void StopSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) override;
  Pass RemoveSandbox(const Ctx& ctx, const pod::SandboxStatus& pod) override;
  Result<Adjusted> CreateContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container,
                                   const std::string& config_json) override;
  void PostCreateContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                           const pod::ContainerStatus& container) override;
  Result<> StartContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                          const pod::ContainerStatus& container) override;
  void PostStartContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                          const pod::ContainerStatus& container) override;
  Result<std::string> UpdateContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                                      const pod::ContainerStatus& container,
                                      const std::string& resources_json) override;
  void PostUpdateContainer(const Ctx& ctx, const pod::SandboxStatus& pod,
                           const pod::ContainerStatus& container) override;
  void StopContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) override;
  Pass RemoveContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container) override;

 private:
  using PluginRef = std::shared_ptr<Plugin>;
  struct Served {
    PluginRef plugin;
    std::thread thread;
    bool ended = false;
  };
  struct State {
    std::vector<PluginRef> active;  // by index; told of events
    std::list<Served> served;       // all that have a thread
    bool stopping = false;
  };

  // ---- nri.cc ----
  void Launch();
  Result<PluginRef> LaunchOne(const PluginName& name);
  Result<> Listen();
  void Accept();
  void Serve(PluginRef plugin, bool launched);
  Result<> Join(Plugin& plugin, const PluginRef& ref);
  void ServeCalls(Plugin& plugin);
  std::string UpdateContainers(const std::string& plugin, const std::string& payload);
  void Life(PluginRef plugin, bool launched);
  void Reap();

  // ---- hooks.cc ----
  std::vector<PluginRef> Active() const { return state_.Lock()->active; }
  Result<> TellAll(v1::Event event, const google::protobuf::MessageLite& request);
  // Where an error changes nothing any more.
  void Inform(v1::Event event, const google::protobuf::MessageLite& request);
  Pass EnterBriefly(const Ctx& ctx);
  Result<> Validate(const std::vector<PluginRef>& plugins, const v1::PodSandbox& pod, const v1::Container& container,
                    const Collector& collector);
  Result<> ApplyUpdates(const Ctx& ctx, const std::vector<v1::ContainerUpdate>& updates);
  Result<> ApplyUpdate(const Ctx& ctx, const v1::ContainerUpdate& update);

  const Options options_;
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  pod::Manager* pods_ = nullptr;  // set by Start
  Synchronized<int> telling_;     // held while plugins are told of an event: one at a time
  Synchronized<State> state_;
  sys::UniqueFd listener_, wake_;
  std::thread acceptor_;
};

// A container's config.json as NRI's messages need it: "" when it cannot be read.
std::string ReadConfig(const pod::ContainerStatus& container);

}  // namespace crisp::nri
