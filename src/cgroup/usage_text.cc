#include "cgroup/usage_text.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/strings.h"

namespace crisp::cgroup {
namespace {

// Calls `each` with the lines of `text`, without a list of them: memory.stat has fifty and is read often.
template <class F>
void ForEachLine(std::string_view text, F each) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    each(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// "name=value" → value
std::optional<std::string_view> Field(const std::vector<std::string_view>& words, std::string_view name) {
  for (std::string_view word : words) {
    if (word.size() > name.size() && word.starts_with(name) && word[name.size()] == '=') {
      return word.substr(name.size() + 1);
    }
  }
  return std::nullopt;
}

uint64_t NumberField(const std::vector<std::string_view>& words, std::string_view name) {
  std::optional<std::string_view> text = Field(words, name);
  return text ? ParseInt<uint64_t>(*text).value_or(0) : 0;
}

double PercentField(const std::vector<std::string_view>& words, std::string_view name) {
  std::optional<std::string_view> text = Field(words, name);
  double value = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), value, std::chars_format::fixed);
  return value;
}

// The entry of "major:minor", added where it is missing; null when that is none, or one too many.
Details::DeviceIo* Device(std::vector<Details::DeviceIo>& all, std::string_view text) {
  size_t colon = text.find(':');
  if (colon == std::string_view::npos) return nullptr;
  auto major = ParseInt<uint32_t>(text.substr(0, colon));
  auto minor = ParseInt<uint32_t>(text.substr(colon + 1));
  if (!major || !minor) return nullptr;
  for (Details::DeviceIo& device : all) {
    if (device.major == *major && device.minor == *minor) return &device;
  }
  if (all.size() >= kDevicesMax) return nullptr;
  all.push_back({.major = *major, .minor = *minor});
  return &all.back();
}

void SortedAndBusy(std::vector<Details::DeviceIo>& all) {
  std::erase_if(all, [](const auto& d) { return d.read_bytes + d.write_bytes + d.reads + d.writes == 0; });
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return std::pair(a.major, a.minor) < std::pair(b.major, b.minor); });
}

}  // namespace

Number NumberOf(std::string_view text) { return ParseInt<uint64_t>(Trim(text)); }

Number ValueOf(std::string_view table, std::string_view key) {
  // By the key, not line by line: memory.stat has fifty lines and is read often.
  for (size_t begin = table.find(key); begin != table.npos; begin = table.find(key, begin + 1)) {
    size_t end = begin + key.size();
    if ((begin != 0 && table[begin - 1] != '\n') || end >= table.size() || table[end] != ' ') continue;
    return ParseInt<uint64_t>(Trim(table.substr(end, table.find('\n', end) - end)));
  }
  return std::nullopt;
}

std::optional<Pressure> ParsePressure(std::string_view text) {
  std::optional<Pressure> out;
  ForEachLine(text, [&](std::string_view line) {
    std::vector<std::string_view> words = SplitWords(line);
    if (words.empty() || (words[0] != "some" && words[0] != "full")) return;
    if (!out) out.emplace();
    // A name for it: GCC 12 assigns nothing to the second operand of `(a ? b : c) = {…}`.
    Pressure::Line& which = words[0] == "some" ? out->some : out->full;
    which = {.avg10 = PercentField(words, "avg10"),
             .avg60 = PercentField(words, "avg60"),
             .avg300 = PercentField(words, "avg300"),
             .total_micros = NumberField(words, "total")};
  });
  return out;
}

std::vector<Details::DeviceIo> ParseIoStat(std::string_view text) {
  std::vector<Details::DeviceIo> out;
  ForEachLine(text, [&](std::string_view line) {
    std::vector<std::string_view> words = SplitWords(line);
    Details::DeviceIo* device = words.empty() ? nullptr : Device(out, words[0]);
    if (device == nullptr) return;
    device->read_bytes = NumberField(words, "rbytes");
    device->write_bytes = NumberField(words, "wbytes");
    device->reads = NumberField(words, "rios");
    device->writes = NumberField(words, "wios");
  });
  SortedAndBusy(out);
  return out;
}

std::vector<Details::DeviceIo> ParseBlkio(std::string_view service_bytes, std::string_view serviced) {
  std::vector<Details::DeviceIo> out;
  auto add = [&](std::string_view table, uint64_t Details::DeviceIo::* read, uint64_t Details::DeviceIo::* write) {
    ForEachLine(table, [&](std::string_view line) {
      std::vector<std::string_view> words = SplitWords(line);
      if (words.size() != 3 || (words[1] != "Read" && words[1] != "Write")) return;  // "Total 5" is the last line
      Details::DeviceIo* device = Device(out, words[0]);
      if (device != nullptr) device->*(words[1] == "Read" ? read : write) = ParseInt<uint64_t>(words[2]).value_or(0);
    });
  };
  add(service_bytes, &Details::DeviceIo::read_bytes, &Details::DeviceIo::write_bytes);
  add(serviced, &Details::DeviceIo::reads, &Details::DeviceIo::writes);
  SortedAndBusy(out);
  return out;
}

}  // namespace crisp::cgroup
