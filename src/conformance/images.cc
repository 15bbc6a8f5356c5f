#include "conformance/images.h"

#include <set>

#include "base/context.h"
#include "base/json.h"
#include "base/strings.h"
#include "codec/tar.h"
#include "conformance/embedded.h"
#include "oci/digest.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::conformance {
namespace {

constexpr size_t kProgramBytesMax = 64u << 20;

class Layer {
 public:
  void Dir(const std::string& path, uint32_t mode = 0755) {
    Parents(path);
    if (made_.insert(path).second) Add({.type = codec::TarEntry::Type::kDirectory, .path = path, .mode = mode});
  }
  void File(const std::string& path, std::string_view content, uint32_t mode = 0644) {
    Parents(path);
    codec::TarEntry entry{.path = path, .mode = mode, .size = content.size()};
    Add(entry);
    bytes_ += content;
    bytes_ += codec::TarPadding(content.size());
  }
  void Symlink(const std::string& path, const std::string& target) {
    Parents(path);
    Add({.type = codec::TarEntry::Type::kSymlink, .path = path, .link_target = target, .mode = 0777});
  }
  std::string Done() const { return bytes_ + std::string(codec::TarTrailer()); }

 private:
  void Add(const codec::TarEntry& entry) { bytes_ += codec::TarHeader(entry).value(); }
  void Parents(const std::string& path) {
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      std::string parent = path.substr(0, slash);
      if (!parent.empty() && made_.insert(parent).second) {
        Add({.type = codec::TarEntry::Type::kDirectory, .path = parent, .mode = 0755});
      }
    }
  }
  std::string bytes_;
  std::set<std::string> made_;
};

BuiltImage Assemble(const Json& config, const std::vector<std::pair<std::string, size_t>>& layers) {
  Json diff_ids = Json::array(), descriptors = Json::array();
  for (const auto& [digest, size] : layers) {
    diff_ids.push_back(digest);  // layers are not compressed: the blob is the archive
    descriptors.push_back(
        {{"mediaType", "application/vnd.oci.image.layer.v1.tar"}, {"size", size}, {"digest", digest}});
  }
  BuiltImage image;
  image.config = DumpJson({{"architecture", "amd64"},
                           {"os", "linux"},
                           {"created", "2026-01-01T00:00:00Z"},
                           {"config", config},
                           {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}});
  image.config_digest = Sha256(image.config);
  image.manifest = DumpJson({{"schemaVersion", 2},
                             {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                             {"config",
                              {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                               {"size", image.config.size()},
                               {"digest", image.config_digest}}},
                             {"layers", descriptors}});
  image.manifest_digest = Sha256(image.manifest);
  return image;
}

// Libraries and loader of a dynamic program, by the loader itself.
Result<std::vector<std::string>> LibrariesOf(const std::string& program) {
  auto listed = TRY(sys::Run({}, {.program = "ldd", .args = {program}}), "libraries of busybox");
  std::vector<std::string> paths;
  for (std::string_view line : Split(listed.out, '\n')) {
    for (std::string_view word : SplitWords(line)) {
      if (word.starts_with('/')) paths.emplace_back(word);
    }
  }
  return paths;
}

Result<std::string> BusyboxLayer(const std::string& busybox) {
  Layer layer;
  layer.File("bin/busybox", TRY(sys::ReadFile(busybox, kProgramBytesMax), "busybox for the test images"), 0755);
  for (const std::string& library : TRY(LibrariesOf(busybox))) {
    layer.File(library.substr(1), TRY(sys::ReadFile(library, kProgramBytesMax)), 0755);
  }
  auto applets = TRY(sys::Run({}, {.program = busybox, .args = {"--list"}}));
  for (std::string_view applet : SplitWords(applets.out)) {
    if (applet != "busybox") layer.Symlink(StrCat("bin/", applet), "busybox");
  }
  layer.File("etc/passwd",
             "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nmember:x:1000:1000::/:/bin/sh\n"
             "nobody:x:65534:65534::/:/bin/sh\n");
  layer.File(
      "etc/group",
      "root:x:0:\nusers:x:100:\nwww-data:x:33:\nmember:x:1000:\ndefined-in-image:x:50000:member\nnogroup:x:65534:\n");
  layer.Dir("tmp", 01777);
  layer.Dir("root", 0700);
  layer.Dir("mnt");
  layer.File("var/run/marker", "of the image\n");
  return layer.Done();
}

std::string GuestLayer() {
  Layer layer;
  layer.File("guest", embedded::Guest(), 0755);
  layer.File("guest-setuid", embedded::Guest(), 04755);
  return layer.Done();
}

std::string VolumeLayer(const std::string& mark = "") {
  Layer layer;
  if (!mark.empty()) layer.File("mark", mark);  // another layer, which no other image has brought already
  layer.File("hello", "hello from the image\n",
             0755);  // images name it as their program; some runtimes look at creation
  layer.File("folder/inside", "inside the folder\n");
  layer.Symlink("folder/out", "../../../../etc");
  return layer.Done();
}

}  // namespace

std::string Sha256(const std::string& bytes) { return oci::Digest::Of(bytes).str(); }

BuiltImage ImageSet::Small(const std::string& label) const {
  return Assemble({{"Labels", {{"crisptest", label}}}, {"Entrypoint", {"/hello"}}},
                  {{small_layer, blobs.at(small_layer).size()}});
}

Result<ImageSet> BuildImages(const std::string& busybox_path) {
  ImageSet set;
  auto blob = [&set](std::string bytes) {
    std::string digest = Sha256(bytes);
    size_t size = bytes.size();
    set.blobs[digest] = std::move(bytes);
    return std::pair(digest, size);
  };
  auto busybox = blob(TRY(BusyboxLayer(busybox_path)));
  auto guest = blob(GuestLayer());
  auto volume = blob(VolumeLayer());
  set.small_layer = volume.first;
  const Json path = Json::array({"PATH=/bin"});
  auto add = [&set](const std::string& name, const Json& config,
                    const std::vector<std::pair<std::string, size_t>>& layers) {
    BuiltImage image = Assemble(config, layers);
    set.blobs[image.config_digest] = image.config;
    set.images[name] = std::move(image);
  };
  add("busybox", {{"Env", path}, {"Cmd", {"/bin/sh"}}}, {busybox, guest});
  add("private", {{"Env", path}, {"Cmd", {"/bin/sh"}}, {"Labels", {{"private", "yes"}}}}, {busybox, guest});
  add("broken", {{"Labels", {{"broken", "yes"}}}}, {blob(VolumeLayer("broken"))});
  add("web", {{"Env", path}, {"Entrypoint", {"/guest", "http", "80"}}, {"ExposedPorts", {{"80/tcp", Json::object()}}}},
      {busybox, guest});
  add("user-uid", {{"Env", path}, {"User", "1002"}}, {busybox, guest});
  add("user-name", {{"Env", path}, {"User", "www-data"}}, {busybox, guest});
  add("user-uid-group", {{"Env", path}, {"User", "1003:users"}}, {busybox, guest});
  add("user-name-group", {{"Env", path}, {"User", "www-data:100"}}, {busybox, guest});
  add("environment",
      {{"Env", {"PATH=/bin", "FROM_IMAGE=yes"}},
       {"WorkingDir", "/mnt"},
       {"Entrypoint", {"/bin/sh", "-c"}},
       {"Cmd", {"env; pwd"}}},
      {busybox, guest});
  add("volume", {{"Cmd", {"/hello"}}}, {volume});
  return set;
}

}  // namespace crisp::conformance
