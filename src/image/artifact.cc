#include "image/artifact.h"

#include <fcntl.h>

#include <set>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/strings.h"
#include "image/directory.h"
#include "image/stage.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

constexpr const char* kTitle = "org.opencontainers.image.title";
constexpr size_t kNameBytesMax = 255;  // NAME_MAX

Result<std::string> FileName(const oci::Descriptor& blob) {
  auto title = blob.annotations.find(kTitle);
  if (title == blob.annotations.end() || title->second.empty()) {
    return StrCat(blob.digest.algorithm_name(), "-", blob.digest.hex());
  }
  const std::string& name = title->second;
  bool safe = name.size() <= kNameBytesMax && name != "." && name != ".." && IsValidUtf8(name);
  for (unsigned char c : name) safe = safe && c >= 0x20 && c != 0x7f && c != '/';
  if (safe) return name;
  return Error(Code::kInvalidArgument, StrCat("artifact: title ", Quote(name, 80), " of a blob is no file name"));
}

// The digest is the caller's to compare.
Result<oci::Digest> FetchInto(const Ctx& ctx, Repository& repository, const oci::Descriptor& blob,
                              const std::string& path, const std::function<void(uint64_t)>& on_bytes) {
  sys::UniqueFd file = TRY(sys::Open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  oci::Hasher hasher(blob.digest.algorithm());
  uint64_t done = 0;
  auto write = [&](std::string_view bytes) -> Result<> {
    hasher.Update(bytes);
    on_bytes(done += bytes.size());
    return sys::WriteAll(file, bytes);
  };
  TRY(repository.FetchBlob(ctx, blob, 0, write));
  return hasher.Finish();
}

Result<> Fetch(const Ctx& ctx, Repository& repository, const ArtifactFile& file, const std::string& dir,
               const std::function<void(uint64_t)>& on_bytes) {
  while (true) {
    oci::Digest digest = TRY(FetchInto(ctx, repository, file.blob, StrCat(dir, "/", file.name), on_bytes));
    if (digest == file.blob.digest) return {};
    if (repository.RejectBlob(file.blob)) continue;
    return Error(Code::kDataLoss, StrCat("blob ", file.blob.digest.str(), " has the digest ", digest.str()));
  }
}

}  // namespace

Result<ArtifactPlan> PlanArtifact(const oci::Manifest& manifest, const oci::Digest& manifest_digest,
                                  const oci::Platform& platform) {
  ArtifactPlan plan;
  plan.type = manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
  if (plan.type.empty()) plan.type = "unknown";
  std::set<std::string> names;
  for (const oci::Descriptor& blob : manifest.layers) {
    std::string name = TRY(FileName(blob));
    if (!names.insert(name).second) {
      return Error(Code::kInvalidArgument, StrCat("artifact: two blobs have the title ", Quote(name, 80)));
    }
    plan.size_bytes += blob.size;
    plan.files.push_back({std::move(name), blob});
  }
  plan.diff_id = oci::Digest::Of("crisp artifact " + manifest_digest.str());
  plan.config_bytes = DumpJson({{"os", platform.os},
                                {"architecture", platform.architecture},
                                {"config", Json::object()},
                                {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array({plan.diff_id.str()})}}},
                                {"artifactType", plan.type}});
  plan.id = oci::Digest::Of(plan.config_bytes);
  return plan;
}

Result<ImageRef> BringInArtifact(const Ctx& ctx, Store& store, Repository& repository, const ArtifactPlan& plan,
                                 const ImageNames& names, const std::function<void(size_t, uint64_t)>& on_bytes) {
  LayerRecord layer{.id = LayerId(plan.diff_id), .diff_id = plan.diff_id};
  Store::Pin pin(store, {layer.id});
  StagedLayer staged(store.sweeper(), StrCat(store.tmp_dir(), "/", RandomHex(8)));
  const std::string dir = staged.dir + "/fs";
  TRY(sys::MakeDirs(dir, 0755));
  ctx.Stage("fetch the artifact's blobs");
  for (size_t i = 0; i < plan.files.size(); ++i) {
    TRY(Fetch(ctx, repository, plan.files[i], dir, [&](uint64_t bytes) { on_bytes(i, bytes); }));
    layer.disk_bytes += plan.files[i].blob.size;
  }
  layer.inodes = plan.files.size() + 1;
  FAILPOINT("pull_artifact.before_sync");
  TRY(SyncFileSystem(store.tmp_dir()));
  FAILPOINT("pull_artifact.after_sync");
  return store.Commit({.id = plan.id.str(),
                       .config = plan.config_bytes,
                       .size_bytes = plan.size_bytes,
                       .layer_ids = {layer.id},
                       .new_layers = {{layer, staged.dir}},
                       .names = {names}});
}

}  // namespace crisp::image
