#include "ctl/timing.h"

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/table.h"

namespace crisp::ctl {

namespace {

std::string Millis(int64_t micros) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f ms", static_cast<double>(micros) / 1000);
  return text;
}

std::string NameOf(const TimedCall& call) {
  return Printable(call.container.empty() ? call.call : StrCat(call.call, " ", call.container));
}

int64_t Longest(const std::vector<TimedCall>& calls) {
  int64_t longest = 1;
  for (const TimedCall& call : calls) longest = std::max(longest, call.took_us);
  return longest;
}

std::string Escape(std::string_view text) {
  std::string out;
  for (char c : Printable(std::string(text))) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

constexpr const char* kBlock = "\u2588";

std::string Bar(int64_t begin_us, int64_t took_us, int64_t scale_us, size_t cells) {
  auto cell = [&](int64_t us) {
    us = std::clamp<int64_t>(us, 0, scale_us);
    return static_cast<size_t>(static_cast<double>(us) / static_cast<double>(scale_us) * static_cast<double>(cells));
  };
  size_t first = std::min(cell(begin_us), cells - 1);
  size_t last = std::clamp(cell(begin_us + took_us), first + 1, cells);  // whatever took time is seen
  std::string bar(first, ' ');
  for (size_t i = first; i < last; ++i) bar += kBlock;
  bar.append(cells - last, ' ');
  return bar;
}

std::string Padded(std::string text, size_t width, bool left) {
  if (text.size() >= width) return text;
  return left ? text + std::string(width - text.size(), ' ') : std::string(width - text.size(), ' ') + text;
}

Result<TimedCall> ParseCall(const Json& entry) {
  TimedCall call{.call = TRY(JsonGet<std::string>(entry, "call")),
                 .container = TRY(JsonGet<std::string>(entry, "container")),
                 .began_at = TRY(JsonGet<int64_t>(entry, "began_at")),
                 .took_us = TRY(JsonGet<int64_t>(entry, "took_us")),
                 .stages = {}};
  auto stages = entry.find("stages");
  if (stages == entry.end() || !stages->is_array()) return call;
  for (const Json& stage : *stages) {
    if (!stage.is_object()) return Error(Code::kInvalidArgument, "timing: a stage is no object");
    call.stages.push_back({.name = TRY(JsonGet<std::string>(stage, "name")),
                           .begin_us = TRY(JsonGet<int64_t>(stage, "begin_us")),
                           .took_us = TRY(JsonGet<int64_t>(stage, "took_us"))});
  }
  return call;
}

constexpr int kRow = 22, kLabel = 230, kBars = 620, kValue = 110, kMargin = 16;

constexpr const char* kStyle = R"(<style>
  svg { color-scheme: light dark; font: 13px ui-sans-serif, system-ui, sans-serif; }
  .ground { fill: #ffffff; } text { fill: #1f2328; } .dim { fill: #59636e; } .call { font-weight: 600; }
  .bar { fill: #3b82c4; } .whole { fill: #9aa7b4; opacity: .45; } .line { stroke: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d; } text { fill: #e6edf3; } .dim { fill: #9198a1; }
    .bar { fill: #58a6e8; } .whole { fill: #6b7682; } .line { stroke: #3d444d; }
  }
</style>
)";

std::string SvgRow(const std::string& name, int64_t begin_us, int64_t took_us, int64_t scale_us, int y, bool call) {
  double per_us = static_cast<double>(kBars) / static_cast<double>(scale_us);
  char bar[200];
  std::snprintf(bar, sizeof bar, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>",
                call ? "whole" : "bar", kMargin + kLabel + static_cast<double>(begin_us) * per_us, y + 4,
                std::max(1.0, static_cast<double>(took_us) * per_us), kRow - 8);
  return StrCat("<text class=\"", call ? "call" : "stage", "\" x=\"", kMargin + (call ? 0 : 14), "\" y=\"", y + 15,
                "\">", Escape(name), "</text>", bar, "<text class=\"dim\" text-anchor=\"end\" x=\"",
                kMargin + kLabel + kBars + kValue, "\" y=\"", y + 15, "\">", Millis(took_us), "</text>\n");
}

}  // namespace

Result<std::vector<TimedCall>> ParseTimings(const Json& timings) {
  if (!timings.is_array()) return Error(Code::kInvalidArgument, "timing: no list");
  std::vector<TimedCall> calls;
  for (const Json& entry : timings) {
    if (!entry.is_object()) return Error(Code::kInvalidArgument, "timing: a call is no object");
    calls.push_back(TRY(ParseCall(entry)));
  }
  return calls;
}

std::string WaterfallText(const std::vector<TimedCall>& calls, size_t columns) {
  size_t width = 0;
  for (const TimedCall& call : calls) {
    width = std::max(width, NameOf(call).size());
    for (const TimedStage& stage : call.stages) width = std::max(width, Printable(stage.name).size() + 2);
  }
  constexpr size_t kTime = 14;
  columns = std::max<size_t>(columns, 60);
  width = std::min(width, columns / 2);
  size_t cells = columns - width - kTime - 3;
  int64_t scale = Longest(calls);
  std::string out;
  for (const TimedCall& call : calls) {
    out += StrCat(Padded(NameOf(call), width, true), " ", std::string(cells + 2, ' '),
                  Padded(Millis(call.took_us), kTime, false), "\n");
    for (const TimedStage& stage : call.stages) {
      out += StrCat(Padded("  " + Printable(stage.name), width, true), " |",
                    Bar(stage.begin_us, stage.took_us, scale, cells), "|", Padded(Millis(stage.took_us), kTime, false),
                    "\n");
    }
  }
  return out;
}

std::string WaterfallSvg(const std::vector<TimedCall>& calls, const std::string& title) {
  int64_t scale = Longest(calls);
  int y = kMargin + kRow + 6;
  std::string rows;
  for (const TimedCall& call : calls) {
    rows += SvgRow(NameOf(call), 0, call.took_us, scale, y, true);
    y += kRow;
    for (const TimedStage& stage : call.stages) {
      rows += SvgRow(stage.name, stage.begin_us, stage.took_us, scale, y, false);
      y += kRow;
    }
    y += 8;
  }
  int width = 2 * kMargin + kLabel + kBars + kValue, height = y + kMargin;
  return StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, " ", height, "\" width=\"", width,
                "\" height=\"", height, "\" role=\"img\">\n<title>", Escape(title), "</title>\n", kStyle,
                "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n<text class=\"call\" x=\"", kMargin,
                "\" y=\"", kMargin + 12, "\">", Escape(title), "</text>\n<line class=\"line\" x1=\"", kMargin + kLabel,
                "\" x2=\"", kMargin + kLabel, "\" y1=\"", kMargin + kRow, "\" y2=\"", y, "\"/>\n", rows, "</svg>\n");
}

}  // namespace crisp::ctl
