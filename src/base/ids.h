// Strong ids: an id of one kind is never taken for one of another, and an id in our hands has been validated.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp {

// A 64-digit lower-case hexadecimal id, as every CRI runtime hands them out. Exact comparison only; abbreviations are
// the command line tools' business.
template <class Tag>
class HexId {
 public:
  HexId() = default;  // the empty id: names nothing
  static Result<HexId> Parse(std::string_view text);
  static HexId Random();  // from getrandom(2)

  const std::string& str() const { return text_; }
  std::string_view Short() const { return std::string_view(text_).substr(0, 13); }
  bool empty() const { return text_.empty(); }
  friend auto operator<=>(const HexId&, const HexId&) = default;

 private:
  explicit HexId(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

struct PodTag {
  static constexpr std::string_view kName = "pod sandbox id";
};
struct ContainerTag {
  static constexpr std::string_view kName = "container id";
};
using PodId = HexId<PodTag>;
using ContainerId = HexId<ContainerTag>;

extern template class HexId<PodTag>;
extern template class HexId<ContainerTag>;

// `bytes` random bytes as hexadecimal text.
std::string RandomHex(size_t bytes);

}  // namespace crisp

template <class Tag>
struct std::hash<crisp::HexId<Tag>> {
  size_t operator()(const crisp::HexId<Tag>& id) const noexcept { return std::hash<std::string>()(id.str()); }
};
