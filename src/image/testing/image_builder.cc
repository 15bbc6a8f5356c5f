#include "image/testing/image_builder.h"

#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>

#include "base/strings.h"
#include "image/directory.h"
#include "sys/file.h"

namespace crisp::image::testing {

using Type = codec::TarEntry::Type;

TarBuilder& TarBuilder::Add(codec::TarEntry entry, std::string_view content) {
  entry.size = content.size();
  bytes_ += *codec::TarHeader(entry);
  bytes_ += content;
  bytes_ += codec::TarPadding(content.size());
  return *this;
}
TarBuilder& TarBuilder::Dir(std::string path, uint32_t mode) {
  return Add({.type = Type::kDirectory, .path = std::move(path), .mode = mode, .mtime_seconds = 1'000'000});
}
TarBuilder& TarBuilder::File(std::string path, std::string_view content, uint32_t mode) {
  return Add({.path = std::move(path), .mode = mode, .mtime_seconds = 1'000'001}, content);
}
TarBuilder& TarBuilder::Symlink(std::string path, std::string target) {
  return Add({.type = Type::kSymlink, .path = std::move(path), .link_target = std::move(target), .mode = 0777});
}
TarBuilder& TarBuilder::Hardlink(std::string path, std::string target) {
  return Add({.type = Type::kHardlink, .path = std::move(path), .link_target = std::move(target), .mode = 0644});
}
TarBuilder& TarBuilder::Node(Type type, std::string path, uint32_t major, uint32_t minor) {
  return Add({.type = type, .path = std::move(path), .mode = 0600, .device_major = major, .device_minor = minor});
}

std::string Gzip(std::string_view plain) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::string out(plain.size() + plain.size() / 8 + 4096, '\0');
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(plain.data()));
  stream.avail_in = static_cast<uint32_t>(plain.size());
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = static_cast<uint32_t>(out.size());
  isal_deflate(&stream);
  out.resize(stream.total_out);
  return out;
}

std::string Zstd(std::string_view plain) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 1));
  return out;
}

BuiltImage BuildImage(const std::vector<std::string>& archives, Packing packing, std::string_view extra) {
  BuiltImage image;
  image.archives = archives;
  std::string diff_ids, layers;
  for (const std::string& archive : archives) {
    image.blobs.push_back(packing == Packing::kGzip ? Gzip(archive) : packing == Packing::kZstd ? Zstd(archive) : archive);
    const char* suffix = packing == Packing::kGzip ? "+gzip" : packing == Packing::kZstd ? "+zstd" : "";
    diff_ids += StrCat(diff_ids.empty() ? "" : ",", "\"", Digest256(archive), "\"");
    layers += StrCat(layers.empty() ? "" : ",", R"({"mediaType":"application/vnd.oci.image.layer.v1.tar)", suffix,
                     R"(","digest":")", Digest256(image.blobs.back()), R"(","size":)", image.blobs.back().size(), "}");
  }
  const std::string arch = oci::MachinePlatform().architecture;
  image.config = StrCat(R"({"architecture":")", arch, R"(","os":"linux","config":{"Env":["A=b"],"Cmd":["/bin/sh"],"Labels":{"extra":")",
                        extra, R"("}},"rootfs":{"type":"layers","diff_ids":[)", diff_ids, "]}}");
  image.manifest = StrCat(R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":)",
                          R"("application/vnd.oci.image.config.v1+json","digest":")", Digest256(image.config), R"(","size":)",
                          image.config.size(), R"(},"layers":[)", layers, "]}");
  return image;
}

void Publish(FakeRegistry& registry, const BuiltImage& image, const std::string& tag) {
  registry.AddManifest(tag, image.manifest);
  registry.AddBlob(image.config);
  for (const std::string& blob : image.blobs) registry.AddBlob(blob);
}

static void AppendTree(std::vector<std::string>& lines, const std::string& dir, const std::string& prefix) {
  auto names = ListDirectory(dir);
  if (!names) return;
  for (const std::string& name : *names) {
    const std::string path = StrCat(dir, "/", name), shown = prefix + name;
    struct stat info;
    if (lstat(path.c_str(), &info) != 0) continue;
    std::string line = StrCat(shown, " ", info.st_uid, ":", info.st_gid, " ", info.st_nlink);
    if (S_ISREG(info.st_mode)) {
      const std::string content = *sys::ReadFile(path, 64u << 20);
      line += StrCat(" ", info.st_mtime, " file ", content.size() < 100 ? content : Digest256(content));
    }
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) line += StrCat(" dev ", major(info.st_rdev), ":", minor(info.st_rdev));
    if (S_ISLNK(info.st_mode)) {
      char target[4096];
      ssize_t n = readlink(path.c_str(), target, sizeof target);
      line += StrCat(" link ", std::string_view(target, static_cast<size_t>(std::max<ssize_t>(n, 0))));
    }
    if (S_ISFIFO(info.st_mode)) line += " fifo";
    char value[16];
    if (lgetxattr(path.c_str(), "trusted.overlay.opaque", value, sizeof value) > 0) line += " opaque";
    char mode[8];
    std::snprintf(mode, sizeof mode, " %04o", info.st_mode & 07777);
    lines.push_back(line + mode);
    if (S_ISDIR(info.st_mode)) {
      lines.back() += StrCat(" dir ", info.st_mtime);
      AppendTree(lines, path, shown + "/");
    }
  }
}

std::string TreeText(const std::string& dir) {
  std::vector<std::string> lines;
  AppendTree(lines, dir, "");
  std::sort(lines.begin(), lines.end());
  return Join(lines, "\n");
}

}  // namespace crisp::image::testing
