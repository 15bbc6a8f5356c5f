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

void Pace::Add(std::chrono::milliseconds elapsed, uint64_t bytes) {
  constexpr std::chrono::seconds kWindow{5};
  samples_.push_back({elapsed, bytes});
  while (samples_.size() > 2 && elapsed - samples_[1].at >= kWindow) samples_.pop_front();
}

uint64_t Pace::rate() const {
  constexpr std::chrono::milliseconds kShortest{200};
  if (samples_.empty()) return 0;
  auto span = samples_.back().at - samples_.front().at;
  if (span < kShortest || samples_.back().bytes < samples_.front().bytes) return 0;
  return (samples_.back().bytes - samples_.front().bytes) * 1000 / static_cast<uint64_t>(span.count());
}

uint64_t BytesDone(const ::crisp::v1::PullUpdate& update) {
  uint64_t done = 0;
  for (const auto& layer : update.layers()) done += layer.bytes_done();
  return done;
}

namespace {

using Layer = ::crisp::v1::LayerProgress;

std::string LayerLine(const Layer& layer, size_t bar_width) {
  std::string line = Pad(ShortId(layer.digest()), 14);
  bool whole = layer.phase() == Layer::DONE;
  if (bar_width > 0)
    line += StrCat(Bar(whole ? 1 : layer.bytes_done(), whole ? 1 : layer.bytes_total(), bar_width), " ");
  if (whole) return line + StrCat("done ", HumanSize(layer.bytes_total()));
  if (layer.phase() == Layer::WAITING) return line + "waiting";
  return line + StrCat(HumanSize(layer.bytes_done()), layer.bytes_total() == 0 ? "" : " / ",
                       layer.bytes_total() == 0 ? "" : HumanSize(layer.bytes_total()));
}

std::string SumLine(const ::crisp::v1::PullUpdate& update, std::chrono::milliseconds elapsed, uint64_t rate) {
  uint64_t done = BytesDone(update), total = 0;
  int whole = 0;
  bool all_known = true;
  for (const Layer& layer : update.layers()) {
    total += layer.bytes_total();
    whole += layer.phase() == Layer::DONE;
    all_known = all_known && (layer.bytes_total() > 0 || layer.phase() == Layer::DONE);
  }
  char time[32];
  std::snprintf(time, sizeof time, "%.1f s", static_cast<double>(elapsed.count()) / 1000);
  std::string line = StrCat(whole, " of ", update.layers_size(), " layers   ", HumanSize(done));
  if (total > 0) line += StrCat(" / ", HumanSize(total));
  line += StrCat("   ", time);
  if (rate > 0) line += StrCat("   ", HumanSize(rate), "/s");
  if (rate > 0 && all_known && total > done) line += StrCat("   ETA ", (total - done + rate - 1) / rate, " s");
  return line;
}

}  // namespace

std::vector<std::string> ProgressLines(const ::crisp::v1::PullUpdate& update, std::chrono::milliseconds elapsed,
                                       uint64_t rate, size_t width) {
  // id, sizes and gaps take 40 columns; a narrow terminal gets no bar.
  size_t bar_width = width > 60 ? std::min<size_t>(40, width - 42) : 0;
  std::vector<std::string> lines;
  for (const Layer& layer : update.layers()) lines.push_back(LayerLine(layer, bar_width).substr(0, width));
  lines.push_back(SumLine(update, elapsed, rate).substr(0, width));
  return lines;
}

}  // namespace crisp::ctl
