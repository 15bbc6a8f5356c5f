#include "ctl/table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/check.h"

namespace crisp::ctl {

namespace {

constexpr size_t kGap = 3;

// Code points, which is right for everything that is allowed in names.
size_t Width(const std::string& text) {
  size_t width = 0;
  for (char c : text) width += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return width;
}

const char* Code(Colour colour) {
  switch (colour) {
    case Colour::kGreen: return "\033[32m";
    case Colour::kYellow: return "\033[33m";
    case Colour::kRed: return "\033[31m";
    case Colour::kDim: return "\033[2m";
    case Colour::kCyan: return "\033[36m";
    case Colour::kMagenta: return "\033[35m";
    case Colour::kBlue: return "\033[34m";
    case Colour::kNone: break;
  }
  return "";
}

}  // namespace

std::string Printable(std::string text) {
  for (char& c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  return text;
}

std::string Paint(const std::string& text, Colour colour, Colours colours) {
  if (colours == Colours::kOff || colour == Colour::kNone || text.empty()) return text;
  return Code(colour) + text + "\033[0m";
}

void Table::Add(std::vector<Cell> row) {
  CHECK(row.size() == header_.size());
  for (Cell& cell : row) cell.text = Printable(std::move(cell.text));
  rows_.push_back(std::move(row));
}

std::string Table::Render(Colours colours) const {
  std::vector<size_t> widths;
  for (const std::string& name : header_) widths.push_back(Width(name));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i].text));
  }
  std::string out;
  auto append = [&](size_t column, const std::string& plain, const std::string& painted) {
    out += painted;
    if (column + 1 < header_.size()) out.append(widths[column] - Width(plain) + kGap, ' ');
  };
  auto end_line = [&] {
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
  };
  for (size_t i = 0; i < header_.size(); ++i) append(i, header_[i], header_[i]);
  end_line();
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) append(i, row[i].text, Paint(row[i].text, row[i].colour, colours));
    end_line();
  }
  return out;
}

Colours ColoursOfStdout() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  bool wanted = (no_color == nullptr || *no_color == '\0') && term != nullptr && std::string_view(term) != "dumb";
  return wanted && isatty(STDOUT_FILENO) == 1 ? Colours::kOn : Colours::kOff;
}

}  // namespace crisp::ctl
