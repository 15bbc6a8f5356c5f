#include "image/store.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "image/directory.h"
#include "oci/manifest.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

void InsertSorted(std::vector<std::string>& list, const std::string& text) {
  auto at = std::lower_bound(list.begin(), list.end(), text);
  if (at == list.end() || *at != text) list.insert(at, text);
}

ImageConfig ToImageConfig(oci::ImageConfig&& config) {
  ImageConfig out;
  out.user = std::move(config.user);
  out.env = std::move(config.env);
  out.entrypoint = std::move(config.entrypoint);
  out.cmd = std::move(config.cmd);
  out.working_dir = std::move(config.working_dir);
  out.volumes = std::move(config.volumes);
  out.stop_signal = std::move(config.stop_signal);
  out.labels = std::move(config.labels);
  return out;
}

}  // namespace

Store::Store(const ServiceOptions& options, state::Database& db)
    : images_dir_(options.root_dir + "/images"),
      layers_dir_(images_dir_ + "/layers"),
      tmp_dir_(images_dir_ + "/tmp"),
      pinned_(options.pinned),
      db_(db) {}

Result<std::unique_ptr<Store>> Store::Open(const ServiceOptions& options, state::Database& db) {
  std::unique_ptr<Store> store(new Store(options, db));
  TRY(store->Load());
  return store;
}

// ---- start

Result<> Store::Load() {
  TRY(sys::MakeDirs(images_dir_, 0700));
  TRY(sys::MakeDir(layers_dir_, 0700));
  TRY(sys::MakeDir(tmp_dir_, 0700));
  const std::string trash_dir = images_dir_ + "/trash";
  TRY(sys::MakeDir(trash_dir, 0700));
  sweeper_ = std::make_unique<Sweeper>(trash_dir);
  Memory memory;
  TRY(LoadLayers(memory));
  TRY(LoadImages(memory));
  TRY(LoadLeases(memory));
  TRY(SweepDirectories(memory));
  *memory_.Lock() = std::move(memory);
  std::lock_guard lock(changing_);
  return CollectGarbage();
}

Result<> Store::LoadLayers(Memory& memory) {
  for (const state::Row& row : TRY(db_.List(kLayersTable))) {
    Result<LayerRecord> layer = ParseLayerRecord(row.key, row.version, row.value);
    if (!layer) {
      LogWarning("layer record does not parse, put into quarantine", {{"layer", row.key}, {"error", layer.error()}});
      TRY(db_.Quarantine(kLayersTable, row.key, layer.error().message()));
    } else if (!sys::Exists(LayerDir(row.key) + "/fs")) {
      LogWarning("layer without its directory, forgotten", {{"layer", row.key}});
      TRY(db_.Delete(kLayersTable, row.key, state::Durability::kProcess));
    } else {
      memory.layers.emplace(row.key, *std::move(layer));
    }
  }
  return {};
}

Result<> Store::LoadImages(Memory& memory) {
  for (const state::Row& row : TRY(db_.List(kImagesTable))) {
    Result<ImageRecord> record = ParseImageRecord(row.key, row.version, row.value);
    Result<ImageRef> image = record ? Describe(*record, memory.layers) : Result<ImageRef>(record.error());
    if (!image && image.error().code() == Code::kNotFound) {
      LogWarning("image lacks a layer, forgotten; a pull brings it back", {{"image", row.key}, {"error", image.error()}});
      TRY(db_.Delete(kImagesTable, row.key, state::Durability::kProcess));
      continue;
    }
    if (!image) {
      LogWarning("image record does not parse, put into quarantine", {{"image", row.key}, {"error", image.error()}});
      TRY(db_.Quarantine(kImagesTable, row.key, image.error().message()));
      continue;
    }
    for (const std::string& tag : record->tags) memory.names[tag] = row.key;
    for (const std::string& digest : record->digests) memory.names[digest] = row.key;
    memory.images.emplace(row.key, *std::move(image));
    memory.records.emplace(row.key, *std::move(record));
  }
  return {};
}

Result<> Store::LoadLeases(Memory& memory) {
  for (const state::Row& row : TRY(db_.List(kLeasesTable))) {
    Result<LeaseRecord> lease = ParseLeaseRecord(row.key, row.version, row.value);
    if (lease) {
      memory.leases.emplace(row.key, *std::move(lease));
    } else {
      LogWarning("lease record does not parse, put into quarantine", {{"owner", row.key}, {"error", lease.error()}});
      TRY(db_.Quarantine(kLeasesTable, row.key, lease.error().message()));
    }
  }
  return {};
}

// Whatever an interrupted pull or removal left behind.
Result<> Store::SweepDirectories(const Memory& memory) {
  for (const std::string& name : TRY(ListDirectory(tmp_dir_))) TRY(sweeper_->Trash(StrCat(tmp_dir_, "/", name)));
  for (const std::string& name : TRY(ListDirectory(layers_dir_))) {
    if (!memory.layers.contains(name)) TRY(sweeper_->Trash(LayerDir(name)));
  }
  return {};
}

// ---- reading

ImageRef Store::Find(const std::string& reference_or_id) const {
  std::string id = reference_or_id.size() == 64 ? "sha256:" + reference_or_id : reference_or_id;
  if (oci::Digest::Parse(id)) return FindById(id);
  Result<oci::Reference> reference = oci::Reference::Parse(reference_or_id);
  if (!reference) return nullptr;
  ImageRef named = FindByTag(reference->has_digest() ? reference->RepoDigest(reference->digest()) : reference->RepoTag());
  return named != nullptr ? named : FindByShortId(reference_or_id);
}

// The one image whose id begins so: lists show ids cut to 13 digits. Fewer than 7 are rather a name.
ImageRef Store::FindByShortId(std::string_view short_id) const {
  constexpr std::string_view kAlgorithm = "sha256:";
  constexpr size_t kDigitsMin = 7;
  if (short_id.starts_with(kAlgorithm)) short_id.remove_prefix(kAlgorithm.size());
  if (short_id.size() < kDigitsMin || short_id.find_first_not_of("0123456789abcdef") != std::string_view::npos) return nullptr;
  const std::string beginning = StrCat(kAlgorithm, short_id);
  auto memory = memory_.Lock();
  auto found = memory->images.lower_bound(beginning);
  if (found == memory->images.end() || !found->first.starts_with(beginning)) return nullptr;
  auto next = std::next(found);
  const bool is_only = next == memory->images.end() || !next->first.starts_with(beginning);
  return is_only ? found->second : nullptr;
}

ImageRef Store::FindById(const std::string& id) const {
  auto memory = memory_.Lock();
  auto found = memory->images.find(id);
  return found == memory->images.end() ? nullptr : found->second;
}

ImageRef Store::FindByTag(const std::string& tag) const {
  auto memory = memory_.Lock();
  auto name = memory->names.find(tag);
  if (name == memory->names.end()) return nullptr;
  auto found = memory->images.find(name->second);
  return found == memory->images.end() ? nullptr : found->second;
}

ImageRef Store::FindByRootDigest(const oci::Digest& digest) const {
  const std::string suffix = "@" + digest.str();
  auto memory = memory_.Lock();
  for (const auto& [name, id] : memory->names) {
    if (name.ends_with(suffix)) return memory->images.at(id);
  }
  return nullptr;
}

std::vector<ImageRef> Store::List() const {
  auto memory = memory_.Lock();
  std::vector<ImageRef> images;
  images.reserve(memory->images.size());
  for (const auto& [id, image] : memory->images) images.push_back(image);
  return images;
}

FsUsage Store::Usage() const {
  FsUsage usage{.mountpoint = images_dir_};
  auto memory = memory_.Lock();
  for (const auto& [id, layer] : memory->layers) {
    usage.used_bytes += layer.disk_bytes;
    usage.inodes_used += layer.inodes;
  }
  return usage;
}

std::optional<LayerRecord> Store::FindLayer(const oci::Digest& diff_id, const oci::Digest& chain_id) const {
  auto memory = memory_.Lock();
  for (const std::string& id : {LayerId(diff_id), ChainedLayerId(chain_id)}) {
    if (auto found = memory->layers.find(id); found != memory->layers.end()) return found->second;
  }
  return std::nullopt;
}

std::optional<ImageRecord> Store::Record(const std::string& image_id) const {
  auto memory = memory_.Lock();
  auto found = memory->records.find(image_id);
  if (found == memory->records.end()) return std::nullopt;
  return found->second;
}

std::vector<LayerRecord> Store::LayersOf(const ImageRecord& image) const {
  auto memory = memory_.Lock();
  std::vector<LayerRecord> layers;
  for (const std::string& id : image.layers) {
    if (auto found = memory->layers.find(id); found != memory->layers.end()) layers.push_back(found->second);
  }
  return layers;
}

// The image as it is handed out. kNotFound: a layer is not there.
Result<ImageRef> Store::Describe(const ImageRecord& record, const std::map<std::string, LayerRecord>& layers) const {
  oci::ImageConfig config = TRY(oci::ParseImageConfig(record.config));
  if (config.diff_ids.size() != record.layers.size()) return Error(Code::kInvalidArgument, "layers do not match the config");
  auto image = std::make_shared<Image>();
  image->id = record.id;
  image->repo_tags = record.tags;
  image->repo_digests = record.digests;
  image->size_bytes = record.size_bytes;
  image->checkpoint_of = record.checkpoint_of;
  image->runtime_handlers = record.handlers;
  if (image->runtime_handlers.empty()) image->runtime_handlers = {""};  // one that came without a name
  image->platform = config.platform.Text();
  image->created_unix_nanos = config.created_unix_nanos;
  for (const oci::Digest& diff_id : config.diff_ids) image->diff_ids.push_back(diff_id.str());
  image->artifact_type = config.artifact_type;
  image->history = std::move(config.history);
  image->config = ToImageConfig(std::move(config));
  image->pinned = pinned_.HasId(record.id);
  for (const std::string& name : record.tags) image->pinned = image->pinned || pinned_.Has(name);
  for (const std::string& name : record.digests) image->pinned = image->pinned || pinned_.Has(name);
  std::set<std::string> seen;
  for (size_t i = record.layers.size(); i-- > 0;) {  // top first
    auto layer = layers.find(record.layers[i]);
    if (layer == layers.end()) return Error(Code::kNotFound, "layer " + record.layers[i]);
    // overlayfs refuses a directory that comes twice, and the upper of the two has everything already.
    if (!layer->second.is_empty && seen.insert(layer->first).second) image->layer_dirs.push_back(LayerDir(layer->first) + "/fs");
    if (layer->second.opaque_root) break;
  }
  std::reverse(image->layer_dirs.begin(), image->layer_dirs.end());
  return ImageRef(std::move(image));
}

// ---- changing

Store::Pin::Pin(Store& store, std::vector<std::string> layer_ids) : store_(store), ids_(std::move(layer_ids)) {
  auto memory = store_.memory_.Lock();
  for (const std::string& id : ids_) ++memory->pins[id];
}

Store::Pin::~Pin() {
  {
    auto memory = store_.memory_.Lock();
    for (const std::string& id : ids_) {
      if (--memory->pins[id] == 0) memory->pins.erase(id);
    }
  }
  std::lock_guard lock(store_.changing_);
  if (Result<> collected = store_.CollectGarbage(); !collected) {
    LogWarning("unused layers were not removed, the next change tries again", {{"error", collected.error()}});
  }
}

// Gives `image` the names and takes them from whoever has them. `changed` collects all records that differ.
void Store::Name(std::map<std::string, ImageRecord>& changed, const Memory& memory, ImageRecord& image,
                 const ImageNames& names) {
  for (const KeptSignature& signature : names.signatures) AddSignature(image, signature);
  InsertSorted(image.handlers, names.handler);
  for (bool is_tag : {true, false}) {
    const std::string& name = is_tag ? names.tag : names.digest;
    if (name.empty()) continue;
    InsertSorted(is_tag ? image.tags : image.digests, name);
    auto holder = memory.names.find(name);
    if (holder == memory.names.end() || holder->second == image.id) continue;
    auto [other, is_new] = changed.try_emplace(holder->second, ImageRecord());
    if (is_new) other->second = memory.records.at(holder->second);
    std::erase(is_tag ? other->second.tags : other->second.digests, name);
  }
}

// Records and shows changed images and new layers. With changing_ held.
Result<> Store::Publish(const std::map<std::string, ImageRecord>& changed, state::Batch batch,
                        const std::vector<LayerRecord>& new_layers) {
  std::map<std::string, LayerRecord> layers = memory_.Lock()->layers;
  for (const LayerRecord& layer : new_layers) {
    layers[layer.id] = layer;
    batch.Put(kLayersTable, layer.id, kRecordVersion, ToJson(layer));
  }
  std::map<std::string, ImageRef> images;
  for (const auto& [id, record] : changed) {
    images[id] = TRY(Describe(record, layers), "image " + id);
    batch.Put(kImagesTable, id, kRecordVersion, ToJson(record));
  }
  TRY(db_.Apply(batch, state::Durability::kSynced));
  auto memory = memory_.Lock();
  for (const LayerRecord& layer : new_layers) memory->layers[layer.id] = layer;
  for (const auto& [id, record] : changed) std::erase_if(memory->names, [&](const auto& name) { return name.second == id; });
  for (const auto& [id, record] : changed) {
    for (const std::string& tag : record.tags) memory->names[tag] = id;
    for (const std::string& digest : record.digests) memory->names[digest] = id;
    memory->images[id] = images[id];
    memory->records[id] = record;
  }
  return {};
}

Result<ImageRef> Store::Commit(const NewImage& image) {
  std::lock_guard lock(changing_);
  std::map<std::string, ImageRecord> changed;
  std::vector<LayerRecord> new_layers;
  Rollback rollback;
  std::set<std::string> present;
  {
    auto memory = memory_.Lock();
    for (const std::string& id : image.layer_ids) {
      if (memory->layers.contains(id)) present.insert(id);
    }
    ImageRecord record;
    const auto known = memory->records.find(image.id);
    const bool is_known = known != memory->records.end();
    if (is_known) record = known->second;
    record.id = image.id;
    record.config = image.config;
    if (record.size_bytes == 0) record.size_bytes = image.size_bytes;
    if (!is_known || image.checkpoint_of.empty()) record.checkpoint_of = image.checkpoint_of;  // see AddNames
    record.layers = image.layer_ids;
    for (const ImageNames& names : image.names) Name(changed, *memory, record, names);
    changed[image.id] = std::move(record);
  }
  for (const NewLayer& layer : image.new_layers) {
    const std::string& id = layer.record.id;
    if (!present.insert(id).second) continue;  // another pull was quicker
    TRY(sweeper_->Trash(LayerDir(id)));        // a left-over without a record
    if (rename(layer.dir.c_str(), LayerDir(id).c_str()) != 0) {
      // Another pull that shares it has committed it, and its image has been removed since.
      if (errno == ENOENT) return Error(Code::kAborted, StrCat("staged layer ", id, " is gone"));
      return Errno(errno, StrCat("rename ", layer.dir, " to ", LayerDir(id)));
    }
    rollback.Add("remove layer " + id, [this, id] { return sweeper_->Trash(LayerDir(id)); });
    new_layers.push_back(layer.record);
  }
  for (const std::string& id : image.layer_ids) {
    if (!present.contains(id)) return Error(Code::kAborted, StrCat("layer ", id, " was removed meanwhile"));
  }
  if (!new_layers.empty()) TRY(SyncDirectory(layers_dir_));
  FAILPOINT("pull.after_rename");
  TRY(Publish(changed, {}, new_layers));
  rollback.Dismiss();
  FAILPOINT("pull.after_record");
  return FindById(image.id);
}

Result<ImageRef> Store::AddNames(const std::string& image_id, const ImageNames& names, bool is_ordinary) {
  std::lock_guard lock(changing_);
  std::map<std::string, ImageRecord> changed;
  {
    auto memory = memory_.Lock();
    auto found = memory->records.find(image_id);
    if (found == memory->records.end()) return Error(Code::kNotFound, "image " + image_id);
    ImageRecord record = found->second;
    Name(changed, *memory, record, names);
    if (is_ordinary) record.checkpoint_of.clear();
    const bool is_same = record.tags == found->second.tags && record.digests == found->second.digests &&
                         record.checkpoint_of == found->second.checkpoint_of && record.signatures == found->second.signatures &&
                         record.handlers == found->second.handlers;
    if (is_same) return memory->images.at(image_id);
    changed[image_id] = std::move(record);
  }
  TRY(Publish(changed, {}, {}));
  return FindById(image_id);
}

Result<> Store::Remove(const std::string& image_id) {
  std::lock_guard lock(changing_);
  return RemoveHeld(image_id);
}

Result<> Store::RemoveHeld(const std::string& image_id) {
  if (FindById(image_id) == nullptr) return {};
  TRY(db_.Delete(kImagesTable, image_id, state::Durability::kSynced));
  FAILPOINT("remove_image.after_record");
  {
    auto memory = memory_.Lock();
    std::erase_if(memory->names, [&](const auto& name) { return name.second == image_id; });
    memory->images.erase(image_id);
    memory->records.erase(image_id);
  }
  return CollectGarbage();
}

Result<> Store::Untag(const std::string& tag) {
  std::lock_guard lock(changing_);
  ImageRef image = FindByTag(tag);
  if (image == nullptr) return {};
  ImageRecord record = *Record(image->id);
  std::erase(record.tags, tag);
  std::erase(record.digests, tag);
  if (!record.tags.empty()) return Publish({{record.id, record}}, {}, {});
  return RemoveHeld(record.id);  // digests alone name what a tag brought in: the last tag takes the image along
}

Result<> Store::RemoveHandler(const std::string& image_id, const std::string& handler) {
  std::lock_guard lock(changing_);
  std::optional<ImageRecord> record = Record(image_id);
  if (!record || std::erase(record->handlers, handler) == 0) return {};
  if (!record->handlers.empty()) return Publish({{record->id, *record}}, {}, {});
  return RemoveHeld(image_id);
}

// Layers that no image, lease or pin names.
Result<> Store::CollectGarbage() {
  std::vector<std::string> unused;
  state::Batch batch;
  {
    auto memory = memory_.Lock();
    std::set<std::string> used;
    for (const auto& [id, record] : memory->records) used.insert(record.layers.begin(), record.layers.end());
    for (const auto& [owner, lease] : memory->leases) used.insert(lease.layers.begin(), lease.layers.end());
    for (const auto& [id, record] : memory->layers) {
      if (!used.contains(id) && !memory->pins.contains(id)) unused.push_back(id);
    }
    // Out of sight at once, so that nobody leases or reuses them from here on.
    for (const std::string& id : unused) memory->layers.erase(id);
  }
  if (unused.empty()) return {};
  for (const std::string& id : unused) batch.Delete(kLayersTable, id);
  // A record that stays behind is one without an image: the next start collects it again.
  TRY(db_.Apply(batch, state::Durability::kProcess));
  FAILPOINT("remove_image.after_layer_record");
  for (const std::string& id : unused) TRY(sweeper_->Trash(LayerDir(id)));
  return {};
}

// ---- leases

Result<> Store::Lease(const std::string& image_id, const std::string& owner) {
  LeaseRecord lease{.owner = owner, .image_id = image_id};
  std::optional<LeaseRecord> before;
  {
    // In memory first: from here on the layers stay. What a crash loses of it was not promised to anybody yet.
    auto memory = memory_.Lock();
    auto image = memory->records.find(image_id);
    if (image == memory->records.end()) return Error(Code::kNotFound, "image " + image_id);
    lease.layers = image->second.layers;
    if (auto known = memory->leases.find(owner); known != memory->leases.end()) before = known->second;
    memory->leases[owner] = lease;
  }
  Result<> recorded = db_.Put(kLeasesTable, owner, kRecordVersion, ToJson(lease), state::Durability::kProcess);
  if (!recorded) {
    auto memory = memory_.Lock();
    if (before) {
      memory->leases[owner] = *before;
    } else {
      memory->leases.erase(owner);
    }
  }
  return recorded;
}

Result<> Store::Release(const std::string& owner) {
  if (!memory_.Lock()->leases.contains(owner)) return {};
  TRY(db_.Delete(kLeasesTable, owner, state::Durability::kProcess));
  std::string image_id;
  bool image_is_gone = false;
  {
    auto memory = memory_.Lock();
    auto lease = memory->leases.find(owner);
    if (lease == memory->leases.end()) return {};
    image_is_gone = !memory->records.contains(lease->second.image_id);
    memory->leases.erase(lease);
  }
  if (!image_is_gone) return {};  // the image itself keeps its layers: nothing to collect, no lock to wait for
  std::lock_guard lock(changing_);
  return CollectGarbage();
}

Result<> Store::KeepOnly(const std::function<bool(const std::string& owner)>& alive) {
  std::vector<std::string> owners;
  {
    auto memory = memory_.Lock();
    for (const auto& [owner, lease] : memory->leases) owners.push_back(owner);
  }
  for (const std::string& owner : owners) {
    if (!alive(owner)) TRY(Release(owner));
  }
  return {};
}

}  // namespace crisp::image
