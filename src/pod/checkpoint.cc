#include "pod/checkpoint.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "checkpoint/format.h"
#include "codec/inflate.h"
#include "codec/tar.h"
#include "image/implicit_dirs.h"
#include "image/layer_writer.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

constexpr size_t kBufferBytes = 1 << 20;

class ReaderSink final : public codec::ByteSink {
 public:
  explicit ReaderSink(codec::TarReader& reader) : reader_(reader), buffer_(kBufferBytes, '\0') {}
  std::span<char> Room() override { return buffer_; }
  Result<> Filled(size_t bytes) override {
    // The archive's own limit was on the compressed bytes.
    if (bytes > left_) return Error(Code::kResourceExhausted, "the checkpoint's changed files are too large");
    left_ -= bytes;
    return reader_.Push(std::string_view(buffer_).substr(0, bytes));
  }

 private:
  codec::TarReader& reader_;
  std::string buffer_;
  uint64_t left_ = checkpoint::Limits().bytes_max;
};

Result<> PushFile(const Ctx& ctx, sys::BorrowedFd file, codec::Inflater& inflater) {
  std::string buffer(kBufferBytes, '\0');
  while (true) {
    TRY(ctx.Check());
    ssize_t n = read(file.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read the changed files");
    if (n == 0) return inflater.Finish();
    TRY(inflater.Push({buffer.data(), static_cast<size_t>(n)}));
  }
}

checkpoint::ContainerDump DumpOf(const ContainerRecord& record) {
  checkpoint::ContainerDump dump;
  dump.id = record.id.str();
  dump.name = record.config.metadata.name;
  dump.image = record.config.user_specified_image.empty() ? record.config.image : record.config.user_specified_image;
  dump.image_ref = record.image_digest_ref.empty() ? record.image_id : record.image_digest_ref;
  dump.runtime = record.handler;
  dump.created_at = record.created_at;
  dump.checkpointed_at = UnixNanosNow();
  return dump;
}

}  // namespace

std::string StatusDump(const ContainerRecord& record) {
  constexpr int kRunning = 1;  // CONTAINER_RUNNING
  return DumpJson(
      {{"id", record.id.str()},
       {"metadata", {{"name", record.config.metadata.name}, {"attempt", record.config.metadata.attempt}}},
       {"state", kRunning},
       {"created_at", record.created_at},
       {"started_at", record.started_at},
       {"image", {{"image", record.config.image}, {"user_specified_image", record.config.user_specified_image}}},
       {"image_ref", record.image_digest_ref.empty() ? record.image_id : record.image_digest_ref},
       {"labels", record.config.labels},
       {"annotations", record.config.annotations},
       {"log_path", record.log_path}});
}

Result<> FillArchive(const Ctx& ctx, const Paths& paths, const ContainerRecord& record,
                     checkpoint::ArchiveWriter& out) {
  using namespace checkpoint;
  const std::string dump = paths.Dump(record.id);
  const std::string spec = TRY(sys::ReadFile(paths.ConfigJson(record.id)));
  // The small ones first: who reads a stream finds them at once.
  TRY(out.AddText(kConfigDump, EncodeContainerDump(DumpOf(record))));
  TRY(out.AddText(kSpecDump, spec));
  TRY(out.AddText(kStatusDump, StatusDump(record)));
  for (const char* name : {kDeletedFiles, kStats, kDumpLog}) TRY(out.AddFile(ctx, name, StrCat(dump, "/", name)));
  if (!record.log_path.empty()) TRY(out.AddFile(ctx, kLogFile, record.log_path));
  TRY(out.AddFile(ctx, kDiffTar, StrCat(dump, "/", kDiffTar)));
  return out.AddDirectory(ctx, kImagesDir, StrCat(dump, "/", kImagesDir));
}

Result<> ApplyDiff(const Ctx& ctx, const std::string& dir, const std::string& upper_dir,
                   const std::vector<std::string>& layer_dirs) {
  Result<sys::UniqueFd> tar = sys::Open(StrCat(dir, "/", checkpoint::kDiffTar), O_RDONLY | O_NOFOLLOW);
  if (!tar && tar.error().os_errno() == ENOENT) return {};
  if (!tar) return std::move(tar).error();
  sys::UniqueFd upper = TRY(sys::Open(upper_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  image::LayerWriter writer(upper, {});
  codec::TarReader reader(writer);
  ReaderSink sink(reader);
  codec::Inflater inflater(sink);
  TRY(PushFile(ctx, *tar, inflater));
  TRY(reader.Finish());
  image::LayerStats stats = TRY(writer.Finish());
  return image::InheritAttributes(ctx, upper_dir, stats.implicit_dirs, layer_dirs);
}

Result<RestoreConfig> PlanRestore(const std::string& config_json, const std::string& criu_config_path,
                                  std::string node_config) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  if (!config.is_object()) return Error(Code::kInternal, "config.json is no object");
  config["annotations"]["org.criu.config"] = criu_config_path;
  if (!node_config.empty() && !node_config.ends_with('\n')) node_config += '\n';
  // CRIU starts in the container's cgroup and leaves its processes there. By default it would move them to the cgroup
  // that they were checkpointed in: that of another container, which may even be there (seen with runc 1.1 on cgroup
  // v2).
  return RestoreConfig{DumpJson(config), node_config + "manage-cgroups=ignore\n"};
}

Result<> CheckMounts(const std::string& spec_dump, const std::string& config_json) {
  std::vector<std::string> had = TRY(checkpoint::ParseBindTargets(spec_dump));
  std::vector<std::string> has = TRY(checkpoint::ParseBindTargets(config_json));
  std::vector<std::string> missing;
  std::set_difference(had.begin(), had.end(), has.begin(), has.end(), std::back_inserter(missing));
  if (missing.empty()) return {};
  return Error(Code::kInvalidArgument,
               StrCat("the checkpoint has mounts that the request does not give: ", Quote(Join(missing, ", "), 1024)));
}

}  // namespace crisp::pod
