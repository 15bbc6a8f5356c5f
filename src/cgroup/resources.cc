#include "cgroup/resources.h"

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

Result<std::string> DirOf(const Layout& layout, const std::string& kernel_path, const FileWrite& write) {
  const Hierarchy* hierarchy = write.controller == "cgroup" && layout.unified ? &layout.hierarchies[0] : layout.Find(write.controller);
  if (hierarchy == nullptr) {
    return Error(Code::kFailedPrecondition, StrCat(write.file, ": this node has no cgroup controller \"", write.controller, "\""));
  }
  return StrCat(hierarchy->mountpoint, kernel_path, "/");
}

Result<> WriteOne(const Layout& layout, const std::string& kernel_path, const FileWrite& write) {
  std::string dir = TRY(DirOf(layout, kernel_path, write));
  Result<> written = sys::WriteExisting(dir + write.file, write.value);
  if (written || write.other_file.empty() || written.error().code() != Code::kNotFound) return written;
  return sys::WriteExisting(dir + write.other_file, write.other_value.empty() ? write.value : write.other_value);
}

// cpu.max and cpu.max.burst, or the period and runtime of realtime processes, are checked against each other at each
// write: one that is refused is written again after the others.
class Writer {
 public:
  Writer(const Layout& layout, const std::string& kernel_path) : layout_(layout), kernel_path_(kernel_path) {}

  Result<> WriteThose(const std::vector<FileWrite>& writes, bool before_limits) {
    for (const FileWrite& write : writes) {
      if (write.before_limits != before_limits) continue;
      Result<> written = WriteOne(layout_, kernel_path_, write);
      if (written) continue;
      if (written.error().os_errno() != EINVAL) return written;
      again_.push_back(&write);
    }
    return {};
  }
  Result<> WriteRefused() {
    for (const FileWrite* write : again_) TRY(WriteOne(layout_, kernel_path_, *write));
    return {};
  }

 private:
  const Layout& layout_;
  const std::string& kernel_path_;
  std::vector<const FileWrite*> again_;
};

// v2 does not refuse a limit below what is used, but kills.
Result<> CheckMemory(const Layout& layout, const std::string& kernel_path, const Resources& resources) {
  const Hierarchy* memory = layout.Find("memory");
  if (memory == nullptr || !memory->v2 || resources.limits.memory_bytes <= 0) return {};
  std::string text = TRY(sys::ReadFile(StrCat(memory->mountpoint, kernel_path, "/memory.current")));
  auto used = ParseInt<int64_t>(Trim(text));
  if (!used || *used <= resources.limits.memory_bytes) return {};
  return Error(Code::kFailedPrecondition, StrCat("the memory limit ", resources.limits.memory_bytes, " is below the ", *used,
                                                 " bytes that are used"));
}

Result<> WriteDevices(const Layout& layout, const std::string& kernel_path, const std::vector<DeviceRule>& rules) {
  const Hierarchy* devices = layout.Find("devices");
  if (devices != nullptr) return WriteDeviceRulesV1(devices->mountpoint + kernel_path, rules);
  for (const Hierarchy& hierarchy : layout.hierarchies) {
    if (hierarchy.v2) return AttachDeviceRulesV2(hierarchy.mountpoint + kernel_path, rules);
  }
  return Error(Code::kFailedPrecondition, "this node's cgroups cannot restrict devices");
}

}  // namespace

Result<> WriteResources(const Layout& layout, const std::string& kernel_path, const Resources& resources) {
  if (resources.check_memory) TRY(CheckMemory(layout, kernel_path, resources));
  Writer writer(layout, kernel_path);
  TRY(writer.WriteThose(resources.writes, true));
  TRY(WriteLimits(layout, kernel_path, resources.limits));
  TRY(writer.WriteThose(resources.writes, false));
  TRY(writer.WriteRefused());
  return resources.devices ? WriteDevices(layout, kernel_path, *resources.devices) : Result<>();
}

}  // namespace crisp::cgroup
