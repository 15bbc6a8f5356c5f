// Small text helpers without formatting libraries, for code that also runs in the shim.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crisp {

namespace internal {
inline void AppendPiece(std::string& out, std::string_view piece) { out.append(piece); }
inline void AppendPiece(std::string& out, const char* piece) { out.append(piece); }
inline void AppendPiece(std::string& out, const std::string& piece) { out.append(piece); }
inline void AppendPiece(std::string& out, char piece) { out.push_back(piece); }
template <std::integral I>
  requires(!std::same_as<I, char> && !std::same_as<I, bool>)
void AppendPiece(std::string& out, I value) {
  char digits[24];
  auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}
}  // namespace internal

// Texts and integers, one after the other: StrCat("open ", path, ": line ", 7).
template <class... Pieces>
std::string StrCat(const Pieces&... pieces) {
  std::string out;
  (internal::AppendPiece(out, pieces), ...);
  return out;
}

// A whole decimal number, no sign for unsigned types, no white space, no overflow; else nothing.
template <std::integral I>
std::optional<I> ParseInt(std::string_view text, int base = 10) {
  I value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string_view Trim(std::string_view text);                              // white space of both ends
std::vector<std::string_view> Split(std::string_view text, char separator);  // keeps empty fields; views into `text`
std::vector<std::string_view> SplitWords(std::string_view text);           // by runs of blanks; no empty fields
std::string Join(const std::vector<std::string>& parts, std::string_view separator);
bool IsValidUtf8(std::string_view text);
// `text` in double quotes, control characters and quotes escaped, cut to `bytes_max` with "…": for messages about input.
std::string Quote(std::string_view text, size_t bytes_max = 256);
std::string HexEncode(std::string_view bytes);

}  // namespace crisp
