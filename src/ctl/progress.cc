#include "ctl/progress.h"

#include <algorithm>
#include <cstdio>

#include "base/strings.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

std::string Bar(uint64_t done, uint64_t total, size_t width) {
  size_t filled =
      total == 0 ? 0
                 : std::min<size_t>(width, static_cast<size_t>(static_cast<double>(done) / static_cast<double>(total) *
                                                               static_cast<double>(width)));
  std::string bar(filled, '=');
  if (filled < width) bar += '>';
  bar.resize(width, ' ');
  return StrCat("[", bar, "]");
}

std::string Pad(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

}  // namespace

std::vector<std::string> ProgressLines(const ::crisp::v1::PullUpdate& update, std::chrono::milliseconds elapsed,
                                       size_t width) {
  // id, sizes and gaps take 40 columns; a narrow terminal gets no bar.
  size_t bar_width = width > 60 ? std::min<size_t>(40, width - 42) : 0;
  std::vector<std::string> lines;
  uint64_t done = 0, total = 0;
  for (const auto& layer : update.layers()) {
    done += layer.bytes_done();
    total += layer.bytes_total();
    std::string line = Pad(ShortId(layer.digest()), 14);
    bool whole = layer.phase() == ::crisp::v1::LayerProgress::DONE;
    if (bar_width > 0)
      line += StrCat(Bar(whole ? 1 : layer.bytes_done(), whole ? 1 : layer.bytes_total(), bar_width), " ");
    if (whole) {
      line += StrCat("done ", HumanSize(layer.bytes_total()));
    } else if (layer.phase() == ::crisp::v1::LayerProgress::WAITING) {
      line += "waiting";
    } else {
      line += StrCat(HumanSize(layer.bytes_done()), layer.bytes_total() == 0 ? "" : " / ",
                     layer.bytes_total() == 0 ? "" : HumanSize(layer.bytes_total()));
    }
    lines.push_back(line.substr(0, width));
  }
  double seconds = static_cast<double>(elapsed.count()) / 1000;
  uint64_t rate = seconds > 0.2 ? static_cast<uint64_t>(static_cast<double>(done) / seconds) : 0;
  char time[32];
  std::snprintf(time, sizeof time, "%.1f s", seconds);
  std::string sum =
      Pad("total", 14) + StrCat(HumanSize(done), total == 0 ? "" : " / ", total == 0 ? "" : HumanSize(total), "   ",
                                time, rate == 0 ? "" : StrCat("   ", HumanSize(rate), "/s"));
  lines.push_back(sum.substr(0, width));
  return lines;
}

}  // namespace crisp::ctl
