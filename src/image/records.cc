#include "image/records.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::image {

namespace {

constexpr JsonLimits kLimits{.bytes_max = 32u << 20, .depth_max = 16};

Result<Json> ParseRecord(std::string_view key, int version, std::string_view json) {
  if (version != kRecordVersion) return Error(Code::kFailedPrecondition, StrCat("record version ", version, " is not known"));
  Json value = TRY(ParseJson(json, key, kLimits));
  if (!value.is_object()) return Error(Code::kInvalidArgument, "not an object");
  return value;
}

// A layer id becomes a path.
Result<> CheckLayerId(std::string_view id) {
  if (id.starts_with("c-")) id.remove_prefix(2);
  bool is_hex = id.size() == 64 || id.size() == 128;
  for (char c : id) is_hex = is_hex && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
  if (!is_hex) return Error(Code::kInvalidArgument, StrCat("not a layer id: ", Quote(id)));
  return {};
}

}  // namespace

std::string ToJson(const LayerRecord& record) {
  return DumpJson({{"diff_id", record.diff_id.str()},
                   {"chain_id", record.chain_id},
                   {"archive_bytes", record.archive_bytes},
                   {"disk_bytes", record.disk_bytes},
                   {"inodes", record.inodes},
                   {"opaque_root", record.opaque_root},
                   {"is_empty", record.is_empty},
                   {"is_exact", record.is_exact}});
}

std::string ToJson(const ImageRecord& record) {
  return DumpJson({{"config", record.config},
                   {"tags", record.tags},
                   {"digests", record.digests},
                   {"size_bytes", record.size_bytes},
                   {"layers", record.layers},
                   {"checkpoint_of", record.checkpoint_of}});
}

std::string ToJson(const LeaseRecord& record) {
  return DumpJson({{"image_id", record.image_id}, {"layers", record.layers}});
}

Result<LayerRecord> ParseLayerRecord(std::string_view key, int version, std::string_view json) {
  Json value = TRY(ParseRecord(key, version, json));
  TRY(CheckLayerId(key));
  LayerRecord record;
  record.id = key;
  const std::string diff_id = TRY(JsonGet<std::string>(value, "diff_id"));
  record.diff_id = TRY(oci::Digest::Parse(diff_id));
  record.chain_id = TRY(JsonGet<std::string>(value, "chain_id"));
  record.archive_bytes = TRY(JsonGet<uint64_t>(value, "archive_bytes"));
  record.disk_bytes = TRY(JsonGet<uint64_t>(value, "disk_bytes"));
  record.inodes = TRY(JsonGet<uint64_t>(value, "inodes"));
  record.opaque_root = TRY(JsonGet<bool>(value, "opaque_root"));
  record.is_empty = TRY(JsonGet<bool>(value, "is_empty"));
  record.is_exact = TRY(JsonGet<bool>(value, "is_exact"));
  return record;
}

Result<ImageRecord> ParseImageRecord(std::string_view key, int version, std::string_view json) {
  Json value = TRY(ParseRecord(key, version, json));
  ImageRecord record;
  record.id = key;
  record.config = TRY(JsonGet<std::string>(value, "config"));
  const oci::Digest id = TRY(oci::Digest::Parse(key));
  if (oci::Digest::Of(record.config, id.algorithm()) != id) {
    return Error(Code::kDataLoss, "the config is not the one that the id names");
  }
  record.tags = TRY(JsonGet<std::vector<std::string>>(value, "tags"));
  record.digests = TRY(JsonGet<std::vector<std::string>>(value, "digests"));
  record.size_bytes = TRY(JsonGet<uint64_t>(value, "size_bytes"));
  record.layers = TRY(JsonGet<std::vector<std::string>>(value, "layers"));
  for (const std::string& layer : record.layers) TRY(CheckLayerId(layer));
  record.checkpoint_of = TRY(JsonGet<std::string>(value, "checkpoint_of"));
  return record;
}

Result<LeaseRecord> ParseLeaseRecord(std::string_view key, int version, std::string_view json) {
  Json value = TRY(ParseRecord(key, version, json));
  LeaseRecord record;
  record.owner = key;
  record.image_id = TRY(JsonGet<std::string>(value, "image_id"));
  record.layers = TRY(JsonGet<std::vector<std::string>>(value, "layers"));
  return record;
}

std::string LayerId(const oci::Digest& diff_id) { return std::string(diff_id.hex()); }
std::string ChainedLayerId(const oci::Digest& chain_id) { return StrCat("c-", chain_id.hex()); }

std::vector<oci::Digest> ChainIds(const std::vector<oci::Digest>& diff_ids) {
  std::vector<oci::Digest> chain;
  for (const oci::Digest& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id : oci::Digest::Of(StrCat(chain.back().str(), " ", diff_id.str())));
  }
  return chain;
}

}  // namespace crisp::image
