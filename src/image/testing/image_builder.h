// Images for tests, made in memory: layers from entries, config and manifest from layers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codec/tar.h"
#include "image/testing/fake_registry.h"

namespace crisp::image::testing {

// An archive, entry by entry.
class TarBuilder {
 public:
  TarBuilder& Dir(std::string path, uint32_t mode = 0755);
  TarBuilder& File(std::string path, std::string_view content, uint32_t mode = 0644);
  TarBuilder& Symlink(std::string path, std::string target);
  TarBuilder& Hardlink(std::string path, std::string target);
  TarBuilder& Node(codec::TarEntry::Type type, std::string path, uint32_t major, uint32_t minor);
  TarBuilder& Add(codec::TarEntry entry, std::string_view content = {});
  std::string Done() const { return bytes_ + std::string(codec::TarTrailer()); }

 private:
  std::string bytes_;
};

std::string Gzip(std::string_view plain);
std::string Zstd(std::string_view plain);

struct BuiltImage {
  std::string config;
  std::string manifest;
  std::vector<std::string> blobs;     // bottom first, as they are fetched
  std::vector<std::string> archives;  // the same, plain
  std::string Id() const { return Digest256(config); }
  std::string ManifestDigest() const { return Digest256(manifest); }
};

enum class Packing { kNone, kGzip, kZstd };
// `extra` makes configs differ: text of a label.
BuiltImage BuildImage(const std::vector<std::string>& archives, Packing packing = Packing::kGzip, std::string_view extra = "");
void Publish(FakeRegistry& registry, const BuiltImage& image, const std::string& tag);

// Every path below `dir` with type, mode, owner, size, content, link target, device, times of files, and overlay marks:
// one line each, sorted. What two unpackers must agree on.
std::string TreeText(const std::string& dir);

}  // namespace crisp::image::testing
