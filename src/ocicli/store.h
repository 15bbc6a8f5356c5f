// What crisp-oci knows of its containers, between two calls: one directory each below the root (docs/formats/oci-state.md).
//
//   <root>/<id>/state.json   Record, replaced atomically
//               config.json  the configuration it was created from
//               exec         native::ExecLaunch without a process: what a further process must join
//               start        fifo: a byte starts the container. Missing: it was started
//               lock         flock: whoever changes the container
// Nothing of it is taken as true: a process counts only if it was started when the record says. Threading: none.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace crisp::ocicli {

struct Record {
  std::string id, bundle, rootfs, oci_version;
  int64_t created_unix_nanos = 0;
  std::string owner;
  pid_t pid = 0;  // 0: none yet
  uint64_t pid_start_ticks = 0;
  std::string cgroup_path;  // "" = none that was made for it
  bool systemd = false;
  std::string annotations = "{}";  // JSON object
};

std::string ToJson(const Record& record);
Result<Record> RecordFromJson(std::string_view text);

// Whether the process of `record` is there; an ended one that nobody has reaped is not.
bool IsAlive(const Record& record);
// A descriptor of it; kNotFound when it has ended.
Result<sys::UniqueFd> OpenProcess(const Record& record);

// kInvalidArgument: not one path part of the characters that runc allows.
Result<> CheckId(const std::string& id);

class Store {
 public:
  explicit Store(std::string root) : root_(std::move(root)) {}

  // Held until the descriptor is closed. kNotFound: no such container.
  Result<sys::UniqueFd> Lock(const std::string& id) const;
  // Somebody else holds the lock just now.
  bool Busy(const std::string& id) const;
  // A new directory, locked. kAlreadyExists.
  Result<sys::UniqueFd> Create(const std::string& id) const;
  Result<Record> Load(const std::string& id) const;
  Result<> Save(const Record& record) const;
  Result<> Remove(const std::string& id) const;
  // Ids in their order. Directories without a record are none.
  Result<std::vector<std::string>> Ids() const;
  std::string File(const std::string& id, const char* name) const { return root_ + "/" + id + "/" + name; }
  // "creating", "created", "running" or "stopped"; that it is paused the cgroup knows.
  std::string StatusOf(const Record& record) const;
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

}  // namespace crisp::ocicli
