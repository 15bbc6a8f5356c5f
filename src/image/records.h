// What the image store keeps in the database: docs/formats/image-store.md. Values and their JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/types.h"
#include "oci/digest.h"

namespace crisp::image {

inline constexpr std::string_view kImagesTable = "images";       // key: image id
inline constexpr std::string_view kLayersTable = "layers";       // key: layer id, the name of its directory
inline constexpr std::string_view kLeasesTable = "image_leases"; // key: owner
inline constexpr int kRecordVersion = 1;

struct LayerRecord {
  std::string id;
  oci::Digest diff_id;
  // Set when the directory is right only on top of this chain (image-spec ChainID of the layer itself), because it has
  // directories whose attributes come from below.
  std::string chain_id;
  uint64_t archive_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t inodes = 0;
  bool opaque_root = false;  // hides all layers below
  bool is_empty = false;     // not worth a place in an overlay
  bool is_exact = false;     // skeleton and files make the archive again
};

// A signature that a signature policy accepted at a pull, kept so that the policy of the day a container is created can
// be asked again (trust.h).
struct KeptSignature {
  bool is_sigstore = false;  // else OpenPGP
  std::string manifest;      // digest of the manifest that it is for, one by which the image was pulled
  std::string payload;       // of sigstore: what is signed
  std::string signature;     // OpenPGP: the message with its content

  bool operator==(const KeptSignature&) const = default;
};

struct ImageRecord {
  std::string id;      // "sha256:…"
  std::string config;  // the config's very bytes
  std::vector<std::string> tags;     // sorted
  std::vector<std::string> digests;  // sorted
  uint64_t size_bytes = 0;
  std::vector<std::string> layers;  // ids, bottom first; as many as the config's diffIDs
  std::string checkpoint_of;        // Image::checkpoint_of
  std::vector<std::string> handlers;      // Image::runtime_handlers
  std::vector<KeptSignature> signatures;  // oldest first, bounded: AddSignature
};

struct LeaseRecord {
  std::string owner;
  std::string image_id;
  std::vector<std::string> layers;
};

std::string ToJson(const LayerRecord& record);
std::string ToJson(const ImageRecord& record);
std::string ToJson(const LeaseRecord& record);
Result<LayerRecord> ParseLayerRecord(std::string_view key, int version, std::string_view json);
Result<ImageRecord> ParseImageRecord(std::string_view key, int version, std::string_view json);
Result<LeaseRecord> ParseLeaseRecord(std::string_view key, int version, std::string_view json);

// Nothing if the image has it; else the oldest go where there would be too many.
void AddSignature(ImageRecord& image, const KeptSignature& signature);

// Directory names: of a layer that fits anywhere, and of one that fits one chain only.
std::string LayerId(const oci::Digest& diff_id);
std::string ChainedLayerId(const oci::Digest& chain_id);
// image-spec config.md, "Layer ChainID". As many as diffIDs.
std::vector<oci::Digest> ChainIds(const std::vector<oci::Digest>& diff_ids);

}  // namespace crisp::image
