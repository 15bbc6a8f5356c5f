#include "image/records.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "image/registry_credentials.h"

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

Result<KeptSignature> ParseSignature(const Json& value) {
  KeptSignature out;
  if (!value.is_object()) return Error(Code::kInvalidArgument, "signatures: not an object");
  out.is_sigstore = TRY(JsonGet<bool>(value, "sigstore"));
  out.manifest = TRY(JsonGet<std::string>(value, "manifest"));
  TRY(oci::Digest::Parse(out.manifest));
  const std::string payload = TRY(JsonGet<std::string>(value, "payload"));
  const std::string signature = TRY(JsonGet<std::string>(value, "signature"));
  out.payload = TRY(Base64Decode(payload, kLimits.bytes_max));
  out.signature = TRY(Base64Decode(signature, kLimits.bytes_max));
  return out;
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
  Json json({{"config", record.config},
                   {"tags", record.tags},
                   {"digests", record.digests},
                   {"size_bytes", record.size_bytes},
                   {"layers", record.layers},
                   {"checkpoint_of", record.checkpoint_of}});
  json["handlers"] = record.handlers;
  for (const KeptSignature& each : record.signatures) {
    json["signatures"].push_back({{"sigstore", each.is_sigstore},
                                  {"manifest", each.manifest},
                                  {"payload", Base64Encode(each.payload)},
                                  {"signature", Base64Encode(each.signature)}});
  }
  return DumpJson(json);
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
  record.handlers = {""};  // before handlers were noted
  if (value.contains("handlers")) record.handlers = TRY(JsonGet<std::vector<std::string>>(value, "handlers"));
  if (auto signatures = value.find("signatures"); signatures != value.end()) {
    for (const Json& each : *signatures) record.signatures.push_back(TRY(ParseSignature(each)));
  }
  return record;
}

void AddSignature(ImageRecord& image, const KeptSignature& signature) {
  constexpr size_t kSignaturesMax = 32, kBytesMax = 8u << 20;
  if (std::ranges::find(image.signatures, signature) != image.signatures.end()) return;
  image.signatures.push_back(signature);
  auto bytes = [&] {
    size_t sum = 0;
    for (const KeptSignature& each : image.signatures) sum += each.payload.size() + each.signature.size();
    return sum;
  };
  while (image.signatures.size() > kSignaturesMax || (image.signatures.size() > 1 && bytes() > kBytesMax)) {
    image.signatures.erase(image.signatures.begin());
  }
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
