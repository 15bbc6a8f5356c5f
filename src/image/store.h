// Store: the images, layers and leases that this node has: in memory to answer from, in the database to survive, and the
// layers' directories under <root>/images/layers. It knows no registry and no archive; service.cc brings it layers.
//
// Threading: any thread. Reads take a short lock and never wait for the disk. Changes of images and layers are serialised
// by changing_ (held over the database's fsync and renames); leases are not, they wait only for their own record.
// Lock order: changing_ before memory_.
// Durability: a layer is renamed into place and recorded by Commit only, after its caller has synced the file system.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "image/pinned.h"
#include "image/records.h"
#include "image/service.h"
#include "image/sweeper.h"
#include "oci/reference.h"
#include "state/database.h"

namespace crisp::image {

// A layer that is to come into the store: its directory (with fs/ in it) somewhere under the store's tmp directory.
struct NewLayer {
  LayerRecord record;
  std::string dir;
};

// Names that an image gets, and what vouches for them.
struct ImageNames {
  std::string tag;     // "docker.io/library/busybox:latest" or empty
  std::string digest;  // "docker.io/library/busybox@sha256:…" or empty
  std::vector<KeptSignature> signatures;
  std::string handler;  // the runtime handler that it is pulled for, or empty
};

struct NewImage {
  std::string id;
  std::string config;
  uint64_t size_bytes = 0;
  std::vector<std::string> layer_ids;  // bottom first
  std::vector<NewLayer> new_layers;    // those of layer_ids that may not be in the store yet
  std::vector<ImageNames> names;
  std::string checkpoint_of;
};

class Store {
 public:
  // Makes the directories, loads the records, drops what is not whole and trashes what has no record.
  static Result<std::unique_ptr<Store>> Open(const ServiceOptions& options, state::Database& db);

  ImageRef Find(const std::string& reference_or_id) const;  // as in Service::Find, but nullptr for anything else
  ImageRef FindById(const std::string& id) const;
  ImageRef FindByTag(const std::string& tag) const;
  ImageRef FindByShortId(std::string_view short_id) const;
  // An image that came from a root (index or manifest) of this digest, in whichever repository.
  ImageRef FindByRootDigest(const oci::Digest& digest) const;
  std::vector<ImageRef> List() const;
  FsUsage Usage() const;

  std::optional<LayerRecord> FindLayer(const oci::Digest& diff_id, const oci::Digest& chain_id) const;
  std::optional<ImageRecord> Record(const std::string& image_id) const;
  std::vector<LayerRecord> LayersOf(const ImageRecord& image) const;
  std::string LayerDir(const std::string& layer_id) const { return layers_dir_ + "/" + layer_id; }
  const std::string& tmp_dir() const { return tmp_dir_; }
  Sweeper& sweeper() { return *sweeper_; }

  // While a Pin lives, layers of these ids are not collected, whether they are in the store already or come later.
  class Pin {
   public:
    Pin(Store& store, std::vector<std::string> layer_ids);
    ~Pin();
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

   private:
    Store& store_;
    std::vector<std::string> ids_;
  };

  // Brings a new image in, with what it has of new layers (which others may have brought in meanwhile). The file system
  // has been synced. All or nothing. kAborted: a layer that was thought to be here is gone.
  Result<ImageRef> Commit(const NewImage& image);
  // Gives the image further names and signatures; a tag leaves the image that had it. kNotFound: the image is gone.
  // `is_ordinary`: a manifest of the image does not call it a checkpoint. That counts more than another's that does: who
  // may push something may annotate a manifest of anybody's image, but not make a checkpoint an image that runs.
  Result<ImageRef> AddNames(const std::string& image_id, const ImageNames& names, bool is_ordinary = false);

  Result<> Remove(const std::string& image_id);
  Result<> Untag(const std::string& tag);
  // The image is not for this runtime handler any more; with the last one it goes. Missing is success.
  Result<> RemoveHandler(const std::string& image_id, const std::string& handler);

  Result<> Lease(const std::string& image_id, const std::string& owner);
  Result<> Release(const std::string& owner);
  Result<> KeepOnly(const std::function<bool(const std::string& owner)>& alive);

 private:
  struct Memory {
    std::map<std::string, LayerRecord> layers;   // by id
    std::map<std::string, ImageRecord> records;  // by image id
    std::map<std::string, ImageRef> images;      // the same, as it is handed out
    std::map<std::string, std::string> names;    // tag or repo digest → image id
    std::map<std::string, LeaseRecord> leases;   // by owner
    std::map<std::string, int> pins;             // layer id → how many
  };

  Store(const ServiceOptions& options, state::Database& db);
  Result<> Load();
  Result<> LoadLayers(Memory& memory);
  Result<> LoadImages(Memory& memory);
  Result<> LoadLeases(Memory& memory);
  Result<> SweepDirectories(const Memory& memory);

  Result<ImageRef> Describe(const ImageRecord& record, const std::map<std::string, LayerRecord>& layers) const;
  static void Name(std::map<std::string, ImageRecord>& changed, const Memory& memory, ImageRecord& image,
                   const ImageNames& names);
  Result<> Publish(const std::map<std::string, ImageRecord>& changed, state::Batch batch,
                   const std::vector<LayerRecord>& new_layers);
  Result<> RemoveHeld(const std::string& image_id);  // with changing_ held
  Result<> CollectGarbage();  // with changing_ held

  const std::string images_dir_;
  const std::string layers_dir_;
  const std::string tmp_dir_;
  const PinnedNames pinned_;
  state::Database& db_;
  std::unique_ptr<Sweeper> sweeper_;
  std::mutex changing_;
  Synchronized<Memory> memory_;
};

}  // namespace crisp::image
