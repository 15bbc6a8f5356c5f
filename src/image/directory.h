// Small things about directories that more than one file of this module needs.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::image {

// Names in `path`, without "." and "..", in no order.
Result<std::vector<std::string>> ListDirectory(const std::string& path);
Result<> SyncDirectory(const std::string& path);   // fsync: names in it are durable
Result<> SyncFileSystem(const std::string& path);  // syncfs: everything below is durable

}  // namespace crisp::image
