// Database: SQLite (WAL) as a table of versioned blobs. One per root dir; holds pods, containers, images, layers, leases
// and network attachments, each kind under its own `table` name. Format: docs/formats/database.md.
//
// Threading: any thread; writers are serialised inside and commits are grouped. Durability::kSynced survives a power
// cut (fsync of the WAL); kProcess survives the death of this process only — enough for what dies with the boot.
// Ownership: one Database per file; a second process opening the same file gets kFailedPrecondition (lock file).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::state {

enum class Durability { kProcess, kSynced };

struct Row {
  std::string key;
  int version = 0;      // of the value's format, chosen by the table's owner
  std::string value;
};

// Several changes that become visible and durable together.
class Batch {
 public:
  Batch& Put(std::string_view table, std::string_view key, int version, std::string_view value);
  Batch& Delete(std::string_view table, std::string_view key);
  struct Change {
    std::string table, key;
    bool is_delete = false;
    int version = 0;
    std::string value;
  };
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
};

class Database {
 public:
  // Creates the file (0600) where missing. A file that SQLite calls corrupt is moved aside to <path>.corrupt-<n> and a
  // new one begun: start-up never fails on bad state; `recovered` in the log says so.
  static Result<std::unique_ptr<Database>> Open(const std::string& path);
  virtual ~Database() = default;

  virtual Result<> Apply(const Batch& batch, Durability durability) = 0;
  Result<> Put(std::string_view table, std::string_view key, int version, std::string_view value, Durability durability);
  Result<> Delete(std::string_view table, std::string_view key, Durability durability);

  virtual Result<std::vector<Row>> List(std::string_view table) = 0;  // by key
  virtual Result<std::string> Get(std::string_view table, std::string_view key) = 0;  // kNotFound

  // Takes a row that its owner could not parse out of its table into `quarantine`, with the reason, so that it harms
  // no later start and is still there for whoever looks.
  virtual Result<> Quarantine(std::string_view table, std::string_view key, std::string_view reason) = 0;
};

}  // namespace crisp::state
