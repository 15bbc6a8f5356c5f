// What the processes of a checkpoint bring along of rights, against what the live request gives (S55): CRIU restores
// credentials, seccomp modes and namespaces from its images, whatever config.json says. Of CRIU's format, version 1.1,
// only the few fields that say so are read.
//
// Threading: pure but for CheckProcesses. Errors: kInvalidArgument, also for an image that is not understood.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::checkpoint {

struct ProcessRules {
  uint64_t capabilities = 0;  // no set of any thread has more than these
  bool seccomp = false;       // every thread has a filter
  // Where a process cannot gain privileges, it is still who it was started as.
  std::optional<uint32_t> uid;
  std::set<uint64_t> groups;  // likewise
  // Namespaces that are not the node's, by the number of their field in CRIU's task_kobj_ids_entry.
  std::set<uint64_t> own_namespaces;
  std::string security_label;  // AppArmor's or SELinux's; "": none is asked for
};
// Of a planned config.json.
Result<ProcessRules> RulesOf(std::string_view config_json);

// `image`: a core-ID.img, of one thread.
Result<> CheckProcess(std::string_view image, const ProcessRules& rules);

// CRIU gives a process the namespaces that it is in itself where the images say that the process had those of whoever
// dumped it: the node's. Looks at inventory.img, pstree.img and the ids-*.img of its processes.
Result<> CheckNamespaces(const std::string& images_dir, const ProcessRules& rules);

// That, and all core-*.img of a checkpoint's directory of images. The error names the file.
Result<> CheckProcesses(const std::string& images_dir, const ProcessRules& rules);

}  // namespace crisp::checkpoint
