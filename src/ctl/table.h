// Tables as crictl prints them: columns separated by blanks, a header in capitals.
// Cells come from pods' and images' names, which anybody may choose: control characters are shown as '?', so that a
// name cannot steer the terminal. Colour is applied to whole cells and does not count for the width.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace crisp::ctl {

enum class Colour { kNone, kGreen, kYellow, kRed, kDim, kCyan, kMagenta, kBlue };

struct Cell {
  Cell(std::string t, Colour c = Colour::kNone) : text(std::move(t)), colour(c) {}  // implicit: rows of texts
  Cell(const char* t) : text(t) {}
  std::string text;
  Colour colour = Colour::kNone;
};

enum class Colours { kOff, kOn };

class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void Add(std::vector<Cell> row);
  size_t rows() const { return rows_.size(); }
  // Ends in a newline. No trailing blanks.
  std::string Render(Colours colours) const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<Cell>> rows_;
};

// `text` between the colour's escape sequences, or as it is.
std::string Paint(const std::string& text, Colour colour, Colours colours);
// Control characters of `text` replaced by '?'.
std::string Printable(std::string text);
// Colours are on when stdout is a terminal that can, and NO_COLOR (no-color.org) is not set.
Colours ColoursOfStdout();

}  // namespace crisp::ctl
