#include "checkpoint/criu_image.h"

namespace crisp::checkpoint {

namespace {

constexpr uint32_t kCommonMagic = 0x54564319, kServiceMagic = 0x55105940;

uint32_t Word(std::string_view bytes) {
  uint32_t out = 0;
  for (int i = 3; i >= 0; --i) out = out << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return out;
}

}  // namespace

Result<> ForEachEntry(std::string_view image, uint32_t magic, const std::function<Result<>(std::string_view)>& entry) {
  if (image.size() >= 4 && (Word(image) == kCommonMagic || Word(image) == kServiceMagic)) image.remove_prefix(4);
  if (image.size() < 4 || Word(image) != magic) return Bad("an image of another kind");
  image.remove_prefix(4);
  if (image.empty()) return Bad("an empty image");
  while (!image.empty()) {
    if (image.size() < 4 || Word(image) > image.size() - 4) return Bad("an image is cut off");
    uint32_t size = Word(image);
    TRY(entry(image.substr(4, size)));
    image.remove_prefix(4 + size_t{size});
  }
  return {};
}

}  // namespace crisp::checkpoint
