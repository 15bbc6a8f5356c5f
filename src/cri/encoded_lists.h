// EncodedList: lists that are asked for every second, as bytes. Snapshots of pods and containers never change, so each
// is put into protobuf's form once, and the last whole list is kept in one piece: while nothing changes a list of ten
// thousand is that piece again, and after a change it is copied together from the old one and what is new. No messages
// are built, measured and destroyed. Threading: any thread. Memory only.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/synchronized.h"

namespace crisp::cri {

// Appends the head of a field that is a message or a string of so many bytes.
void AppendFieldHead(std::string& out, int field, size_t bytes);
// `message` as an element of field 1 of a list message: tag, length, bytes.
std::string AsFirstField(const std::string& message);
// `bytes` without a copy.
grpc::ByteBuffer ToByteBuffer(std::string bytes);

// Pieces one after the other. Immutable.
class EncodedPieces {
 public:
  explicit EncodedPieces(const std::vector<std::string_view>& pieces);

  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t at) const;
  // Those without a copy: all, and in batches, each ended by the piece that makes `bytes_max` full.
  grpc::ByteBuffer All() const { return grpc::ByteBuffer(&bytes_, 1); }
  std::vector<grpc::ByteBuffer> Batches(size_t items_max, size_t bytes_max) const;

 private:
  size_t BeginOf(size_t at) const { return at == 0 ? 0 : ends_[at - 1]; }

  grpc::Slice bytes_;
  std::vector<size_t> ends_;
};

template <class Snapshot>
class EncodedList {
 public:
  using Ref = std::shared_ptr<const Snapshot>;
  // A list's snapshots, each with its bytes: an element of field 1 of a message.
  struct Encoded {
    Encoded(std::span<const Ref> list, const std::vector<std::string_view>& bytes)
        : refs(list.begin(), list.end()), pieces(bytes) {}
    const std::vector<Ref> refs;
    const EncodedPieces pieces;
  };
  using EncodedRef = std::shared_ptr<const Encoded>;

  // `encode` makes the message of one.
  explicit EncodedList(std::function<std::string(const Snapshot&)> encode) : encode_(std::move(encode)) {}

  // `complete`: there are no others. What is kept is the last complete list, or one with much that was not in it.
  EncodedRef Of(std::span<const Ref> list, bool complete) {
    KeptRef kept = kept_.Lock()->last;
    if (std::equal(list.begin(), list.end(), kept->encoded->refs.begin(), kept->encoded->refs.end())) {
      return kept->encoded;
    }
    std::deque<std::string> fresh;
    EncodedRef made = Make(*kept, list, fresh);
    Keep(made, complete, fresh.size());
    return made;
  }
  // How many are kept.
  size_t size() const { return kept_.Lock()->last->encoded->refs.size(); }

 private:
  struct Kept {
    EncodedRef encoded;
    std::unordered_map<const Snapshot*, size_t> places;
  };
  using KeptRef = std::shared_ptr<const Kept>;
  struct State {
    KeptRef last = std::make_shared<const Kept>(
        Kept{.encoded = std::make_shared<const Encoded>(std::span<const Ref>(), std::vector<std::string_view>()),
             .places = {}});
    size_t missed = 0;  // how often something was not in it
  };

  EncodedRef Make(const Kept& kept, std::span<const Ref> list, std::deque<std::string>& fresh) const {
    std::vector<std::string_view> pieces;
    pieces.reserve(list.size());
    size_t next = 0;  // where it lies if nothing came or went in between
    for (const Ref& ref : list) {
      bool found = next < kept.encoded->refs.size() && kept.encoded->refs[next] == ref;
      if (!found) {
        auto place = kept.places.find(ref.get());
        found = place != kept.places.end();
        if (found) next = place->second;
      }
      if (found) {
        pieces.push_back(kept.encoded->pieces[next++]);
      } else {
        fresh.push_back(AsFirstField(encode_(*ref)));
        pieces.push_back(fresh.back());
      }
    }
    return std::make_shared<const Encoded>(list, pieces);
  }

  void Keep(const EncodedRef& made, bool complete, size_t missed) {
    {
      auto state = kept_.Lock();
      state->missed += missed;
      const size_t kept = state->last->encoded->refs.size();
      // Nor for ever what has gone meanwhile.
      const bool shrunk = made->refs.size() + 64 < kept / 2;
      if (!complete && !shrunk && state->missed <= kept / 4 + 64) return;
    }
    Kept kept{.encoded = made, .places = {}};
    kept.places.reserve(made->refs.size());
    for (size_t i = 0; i < made->refs.size(); ++i) kept.places.emplace(made->refs[i].get(), i);
    auto fresh = std::make_shared<const Kept>(std::move(kept));
    auto state = kept_.Lock();
    state->missed = 0;
    state->last.swap(fresh);  // the old one goes after the lock
  }

  const std::function<std::string(const Snapshot&)> encode_;
  Synchronized<State> kept_;
};

}  // namespace crisp::cri
