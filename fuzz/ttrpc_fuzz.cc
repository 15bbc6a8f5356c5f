// What a plugin sends: frames, in pieces that the input decides.
#include <cstdint>
#include <cstdlib>

#include "codec/nri_mux.h"
#include "codec/ttrpc.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp;
  if (size == 0) return 0;
  size_t piece = data[0] + 1u;
  std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  codec::NriMuxReader mux;
  codec::TtrpcReader in_mux, plain;
  std::vector<codec::NriMuxFrame> pieces;
  std::vector<codec::TtrpcFrame> frames, plain_frames;
  bool plain_ok = true, mux_ok = true;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    if (plain_ok) plain_ok = bool(plain.Push(bytes.substr(at, piece), plain_frames));
    if (mux_ok) mux_ok = bool(mux.Push(bytes.substr(at, piece), pieces));
  }
  for (const codec::NriMuxFrame& each : pieces) {
    if (each.payload.size() > codec::kNriMuxPayloadBytesMax) std::abort();
    if (!in_mux.Push(each.payload, frames)) break;
  }
  // Read again in one piece, it is the same.
  codec::TtrpcReader again;
  std::vector<codec::TtrpcFrame> whole;
  (void)again.Push(bytes, whole);
  if (whole != plain_frames) std::abort();
  for (const codec::TtrpcFrame& frame : frames) {
    Result<std::string> encoded = codec::EncodeTtrpc(frame);
    codec::TtrpcReader back;
    std::vector<codec::TtrpcFrame> same;
    if (!encoded || !back.Push(*encoded, same) || same.size() != 1 || !(same[0] == frame)) std::abort();
  }
  return 0;
}
