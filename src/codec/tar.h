// tar: reading and writing archives as container images have them, without I/O.
//
// Formats: V7, ustar (POSIX.1-1988), GNU (long names, base-256 numbers, old sparse), PAX (POSIX.1-2001 pax) with extended
// attributes as star (SCHILY.xattr.*) and libarchive (LIBARCHIVE.xattr.*) write them, and the PAX sparse formats 0.0, 0.1
// and 1.0 (GNU tar manual, "Storing Sparse Files"). Where the formats leave room, the reader decides as Go's archive/tar
// does, because that is what layers are made and measured with.
//
// The reader trusts nothing: sizes, counts and lengths have limits, memory is bounded by them, nothing recurses. It does
// not judge names beyond their length: "../x" is delivered as written, the unpacker contains it.
// Threading: an object belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace crisp::codec {

inline constexpr size_t kTarBlock = 512;

struct TarEntry {
  enum class Type { kFile, kHardlink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };
  // A run of the file's bytes that the archive holds; between runs are holes.
  struct Chunk {
    uint64_t offset;
    uint64_t length;
  };

  Type type = Type::kFile;
  std::string path;         // as written; no NUL, not empty
  std::string link_target;  // hard links and symlinks only; no NUL
  uint32_t mode = 0;        // permission bits with setuid, setgid, sticky
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;  // of the file's content, holes included; 0 for everything but files
  int64_t mtime_seconds = 0;
  int32_t mtime_nanos = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;  // names as the kernel has them; any bytes as value
  bool is_sparse = false;
  std::vector<Chunk> chunks;  // of a sparse file, ascending, without overlap
};

struct TarLimits {
  uint64_t meta_bytes_max = 1u << 20;     // of one PAX header, long name or sparse map
  uint64_t size_max = 1ull << 40;         // of one file, holes included
  uint64_t path_bytes_max = 4095;         // Linux cannot name a longer one
  size_t sparse_chunks_max = 1u << 16;
  size_t xattrs_max = 256;                // of one entry
};

// Receives what the reader finds. An error ends the reading and is returned by Push.
class TarSink {
 public:
  virtual ~TarSink() = default;
  virtual Result<> OnEntry(const TarEntry& entry) = 0;
  // Content of the last entry, in ascending order. `bytes` is valid during the call only.
  virtual Result<> OnData(uint64_t offset, std::string_view bytes) = 0;
  virtual Result<> OnEntryEnd() = 0;
  // Every byte of the archive that is no file content, in order: headers, padding, the trailer. OnRaw of a header comes
  // before its OnEntry. Archive = OnRaw and OnData bytes in the order of the calls.
  virtual Result<> OnRaw(std::string_view bytes) {
    (void)bytes;
    return {};
  }
};

// kWithoutContents reads a skeleton: an archive from which all file contents were taken out (what OnRaw delivered, one
// after the other). OnData is not called then.
enum class TarContents { kPresent, kWithoutContents };

class TarReader {
 public:
  explicit TarReader(TarSink& sink, TarLimits limits = {}, TarContents contents = TarContents::kPresent)
      : sink_(sink), limits_(limits), contents_(contents) {}

  // Any number of bytes. kDataLoss: not a tar archive, or a damaged one. kInvalidArgument: over a limit or a kind of entry
  // that an image cannot have. After an error the reader is done for.
  Result<> Push(std::string_view bytes);
  // The end of the archive: kDataLoss if an entry is cut off. A missing trailer is accepted, as by GNU tar and Go.
  Result<> Finish();

 private:
  enum class State { kHeader, kMeta, kSparseExtension, kSparseMap, kData, kPadding, kEnd };
  enum class Meta { kPax, kPaxGlobal, kLongName, kLongLink };
  struct Pending {  // what meta headers said about the next entry
    bool has_pax = false;
    std::vector<std::pair<std::string, std::string>> pax;
    std::string long_name;
    std::string long_link;
  };

  Result<> Step(std::string_view& bytes);
  Result<bool> TakeBlock(std::string_view& bytes, std::string_view& block);
  Result<> OnBlock(std::string_view block);
  Result<> OnMetaHeader(std::string_view block, Meta meta);
  Result<> OnMetaDone();
  Result<> OnEntryHeader(std::string_view block);
  Result<> ApplyPax();
  Result<> ApplyPaxRecord(const std::string& key, const std::string& value);
  Result<> AddXattr(std::string name, std::string value, bool replaces);
  Result<> BeginOldSparse(std::string_view block);
  Result<> OnSparseExtension(std::string_view block);
  Result<> OnSparseMapBlock(std::string_view block);
  Result<bool> ParseSparseMap(std::string_view text);
  Result<> CheckSparse();
  Result<> CheckEntry();
  Result<> DeliverEntry();
  Result<> OnDataBytes(std::string_view& bytes);
  Result<> EndData();

  TarSink& sink_;
  const TarLimits limits_;
  const TarContents contents_;

  State state_ = State::kHeader;
  std::string block_;  // a block of which only a part has come yet
  bool zero_block_seen_ = false;

  Meta meta_kind_ = Meta::kPax;
  std::string meta_;
  uint64_t meta_left_ = 0;

  Pending pending_;
  TarEntry entry_;
  struct Sparse {
    bool is_pax = false;
    int major = 0, minor = 0;
    bool has_real_size = false;
    uint64_t real_size = 0;
    std::string name;
    uint64_t offset = 0;  // of format 0.0's pair whose length comes next
    bool map_in_data = false;
    std::string map;
  } sparse_;
  uint64_t stored_bytes_ = 0;  // of the entry's content, as it stands in the archive
  uint64_t left_ = 0;          // of stored_bytes_
  uint64_t padding_left_ = 0;
  size_t chunk_ = 0;           // where in entry_.chunks the next byte belongs
  uint64_t chunk_done_ = 0;
};

// The header blocks of `entry` (PAX where ustar cannot say it); its content and TarPadding follow. kInvalidArgument:
// names with NUL or over 4095 bytes, sparse entries.
Result<std::string> TarHeader(const TarEntry& entry);
// Zero bytes that fill the last block of `size` bytes of content.
std::string_view TarPadding(uint64_t size);
// What ends an archive: two zero blocks.
std::string_view TarTrailer();

}  // namespace crisp::codec
