// EncodedList: replies of lists that are asked every second, as bytes. Snapshots of pods and containers never change,
// so each is put into protobuf's form once, and a list of ten thousand is copied together from ready pieces: no
// messages are built, measured and destroyed. What the copies take is freed when their snapshots are. Threading: any
// thread. Memory only.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/synchronized.h"

namespace crisp::cri {

// `message` as an element of field 1 of a list message: tag, length, bytes.
std::string AsFirstField(const std::string& message);
// Bytes one after the other, in one piece.
grpc::ByteBuffer Concatenate(const std::vector<const std::string*>& pieces);

template <class Snapshot>
class EncodedList {
 public:
  using Ref = std::shared_ptr<const Snapshot>;
  // `encode` makes the message of one.
  explicit EncodedList(std::function<std::string(const Snapshot&)> encode) : encode_(std::move(encode)) {}

  // The list message with these, in their order, in its field 1.
  grpc::ByteBuffer Encode(std::span<const Ref> snapshots) {
    grpc::ByteBuffer out;
    EncodeSome(snapshots, std::numeric_limits<size_t>::max(), out);
    return out;
  }
  // The same with those at the beginning that make `bytes_max` full; returns how many.
  size_t EncodeSome(std::span<const Ref> snapshots, size_t bytes_max, grpc::ByteBuffer& out) {
    std::vector<const std::string*> pieces;
    pieces.reserve(snapshots.size());
    auto known = known_.Lock();
    size_t bytes = 0;
    for (const Ref& snapshot : snapshots) {
      if (bytes >= bytes_max) break;
      Piece& piece = known->pieces[snapshot.get()];
      if (piece.snapshot == nullptr) piece = {snapshot, AsFirstField(encode_(*snapshot))};
      pieces.push_back(&piece.bytes);
      bytes += piece.bytes.size();
    }
    out = Concatenate(pieces);
    size_t taken = pieces.size();
    Forget(*known);
    return taken;
  }
  size_t size() const { return known_.Lock()->pieces.size(); }

 private:
  struct Piece {
    Ref snapshot;  // keeps the address, by which it is found, from becoming another's
    std::string bytes;
  };
  struct Known {
    std::unordered_map<const Snapshot*, Piece> pieces;
    size_t look_at = 64;  // entries from which on it is worth looking for those that are not needed
  };
  // Those that nobody but us has any more.
  static void Forget(Known& known) {
    if (known.pieces.size() < known.look_at) return;
    std::erase_if(known.pieces, [](const auto& entry) { return entry.second.snapshot.use_count() == 1; });
    known.look_at = known.pieces.size() + known.pieces.size() / 4 + 64;
  }

  const std::function<std::string(const Snapshot&)> encode_;
  Synchronized<Known> known_;
};

}  // namespace crisp::cri
