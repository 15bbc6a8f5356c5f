// The durable record of one attachment: row `<pod id>` of table "network". docs/formats/network.md describes it.
// Written before the first outside effect (an intent, no result) and again with the result.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/synchronized.h"
#include "network/plugin.h"

namespace crisp::network {

constexpr const char* kTable = "network";
constexpr int kRecordVersion = 1;

struct Record {
  PodId pod;
  // As it was at ADD: DEL uses the same, whatever the directory says by then. Of many records one and the same.
  std::shared_ptr<const NetworkConf> conf;
  Attachment attachment;
  std::vector<bool> by_program;    // per plugin: ADD is done by a program, not built in
  std::optional<CniResult> result; // of the whole chain
};

// Configurations of records by their texts: records with one text get one. Threading: any thread.
class SharedConfs {
 public:
  Result<std::shared_ptr<const NetworkConf>> Of(std::string_view text, std::string file, std::string_view what);

 private:
  Synchronized<std::map<std::string, std::shared_ptr<const NetworkConf>>> by_file_and_text_;
};

std::string EncodeRecord(const Record& record);
Result<Record> DecodeRecord(const std::string& key, std::string_view value, SharedConfs& confs);

// libcni's cache format "cniCacheV1" of one attachment, for tools that look there.
std::string CacheFileName(const Record& record);
std::string CacheFileText(const Record& record);

}  // namespace crisp::network
