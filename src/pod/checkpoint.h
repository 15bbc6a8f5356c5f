// Parts of checkpoint and restore that need no manager: the dump directory of one container and its archive.
// Private to pod/. Threading: functions on values.
#pragma once

#include <string>

#include "base/context.h"
#include "checkpoint/writer.h"
#include "pod/paths.h"
#include "pod/record.h"

namespace crisp::pod {

// status.dump: CRI's ContainerStatus as protobuf's Go structs write it in JSON.
std::string StatusDump(const ContainerRecord& record);

// Writes into `out` what was captured of the container in its dump directory, and what is known of it. Not committed.
Result<> FillArchive(const Ctx& ctx, const Paths& paths, const ContainerRecord& record, checkpoint::ArchiveWriter& out);

// The checkpoint in `dir` (unpacked) becomes the container's: the changed files go into the upper directory, which is
// not mounted yet. `layer_dirs`: of the image.
Result<> ApplyDiff(const Ctx& ctx, const std::string& dir, const std::string& upper_dir,
                   const std::vector<std::string>& layer_dirs);

// The planned config.json of a container that is to be restored, with the annotation by which OCI runtimes give CRIU a
// configuration file, and that file's text. `node_config` is the node's own for runc, which ours would replace.
struct RestoreConfig {
  std::string config_json, criu_config;
};
Result<RestoreConfig> PlanRestore(const std::string& config_json, const std::string& criu_config_path,
                                  std::string node_config);

// kInvalidArgument names what the checkpoint had mounted and the planned `config_json` has not: CRIU could not restore
// it, and a mount is made because the request says so, never because the archive does (S55).
Result<> CheckMounts(const std::string& spec_dump, const std::string& config_json);

}  // namespace crisp::pod
