// What the processes of a checkpoint bring along of rights, against what the live request gives (S55): CRIU restores
// credentials and seccomp modes from its images, whatever config.json says. Of CRIU's format, version 1.1, only the few
// fields of images/core.proto and images/creds.proto that say so are read.
//
// Threading: pure but for CheckProcesses. Errors: kInvalidArgument, also for an image that is not understood.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::checkpoint {

struct ProcessRules {
  uint64_t capabilities = 0;  // no set of any thread has more than these
  bool seccomp = false;       // every thread has a filter
  // Where a process cannot gain privileges, it is still who it was started as.
  std::optional<uint32_t> uid;
  std::string security_label;  // AppArmor's or SELinux's; "": none is asked for
};
// Of a planned config.json.
Result<ProcessRules> RulesOf(std::string_view config_json);

// `image`: a core-ID.img, of one thread.
Result<> CheckProcess(std::string_view image, const ProcessRules& rules);

// All core-*.img of a checkpoint's directory of images. The error names the file.
Result<> CheckProcesses(const std::string& images_dir, const ProcessRules& rules);

}  // namespace crisp::checkpoint
