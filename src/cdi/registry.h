// Registry: the CDI devices that this node has, from the specification files of some directories. Looked at on use: a
// directory is listed and its files are stat'ed each time, and only what has changed is read again.
// Threading: any thread; one look at a time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/synchronized.h"
#include "cdi/spec.h"

namespace crisp::cdi {

class Registry {
 public:
  // In rising priority: a device of a later directory takes the place of the same one in an earlier directory. Two of
  // one directory are a conflict, and neither is given.
  explicit Registry(std::vector<std::string> dirs) : dirs_(std::move(dirs)) {}

  // What has to be done for these devices ("vendor.com/class=name", each counted once): for each file that one comes
  // from its common edits first, then each device's. Types and numbers of device nodes that a file leaves out have been
  // looked up on the node.
  // kInvalidArgument: no such name can exist. kNotFound: no file has it, with what is wrong with the files if something
  // is. kFailedPrecondition: conflict, or its device node is not there.
  Result<std::vector<Edits>> Resolve(const std::vector<std::string>& names);

 private:
  struct File {
    std::string stamp;  // tells whether it has changed
    std::shared_ptr<const Spec> spec;
    std::string problem;  // why there is no spec
  };
  using Files = std::map<std::string, File>;  // by path

  void Refresh(Files& files) const;

  const std::vector<std::string> dirs_;
  Synchronized<Files> files_;
};

}  // namespace crisp::cdi
