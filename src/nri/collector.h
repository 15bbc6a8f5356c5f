// Collector: what several plugins want for one container, put together. Each thing that can be set has one owner: a
// second plugin that sets it is a conflict, and the request fails, naming both. A plugin that wants to set what another
// has set removes it first ("-" before its key; for the command line an empty first argument). Hooks add up. The rules
// are NRI's (pkg/adaptation/result.go of NRI 0.12). Pure; one thread.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "nri/protocol.h"

namespace crisp::nri {

class Collector {
 public:
  // Of a creation: `container` outlives the collector and is changed as plugins adjust it, so that each sees what those
  // before it have done.
  static Collector ForCreate(v1::Container& container);
  // Of an update: `resources` likewise. Of a stop: both empty.
  static Collector ForUpdate(std::string container_id, v1::LinuxResources& resources);
  static Collector ForStop() { return Collector(); }

  // kInvalidArgument: a conflict, or an update of the container that is just being created.
  Result<> Adjust(const v1::ContainerAdjustment& adjustment, const std::string& plugin);
  Result<> Update(const google::protobuf::RepeatedPtrField<v1::ContainerUpdate>& updates, const std::string& plugin);

  const v1::ContainerAdjustment& adjustment() const { return adjustment_; }
  // Of other containers.
  std::vector<v1::ContainerUpdate> updates() const;
  v1::OwningPlugins owners() const;

 private:
  using Key = std::tuple<std::string, int, std::string>;  // container, field, key within it

  Result<> Claim(v1::Field field, const std::string& key, const std::string& plugin) {
    return Claim(id_, field, key, plugin);
  }
  Result<> Claim(const std::string& id, v1::Field field, const std::string& key, const std::string& plugin);
  void Disown(v1::Field field, const std::string& key) { owners_.erase({id_, field, key}); }

  using Strings = google::protobuf::Map<std::string, std::string>;
  Result<> AdjustMap(v1::Field field, const Strings& wanted, Strings& collected, Strings& shown,
                     const std::string& plugin);
  Result<> AdjustMounts(const v1::ContainerAdjustment& wanted, const std::string& plugin);
  Result<> AdjustEnv(const v1::ContainerAdjustment& wanted, const std::string& plugin);
  Result<> AdjustArgs(const v1::ContainerAdjustment& wanted, const std::string& plugin);
  void AdjustHooks(const v1::Hooks& wanted, const std::string& plugin);
  Result<> AdjustLinux(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin);
  Result<> AdjustDevices(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin);
  Result<> AdjustNamespaces(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin);
  Result<> AdjustRdt(const v1::LinuxRdt& wanted, const std::string& plugin);
  Result<> TakeResources(const std::string& id, const v1::LinuxResources& from, v1::LinuxResources& into,
                         const std::string& plugin);

  std::string id_;
  v1::Container* container_ = nullptr;
  v1::LinuxResources* resources_ = nullptr;
  v1::ContainerAdjustment adjustment_;
  std::map<Key, std::string> owners_;
  std::map<std::string, v1::ContainerUpdate> updates_;
};

}  // namespace crisp::nri
