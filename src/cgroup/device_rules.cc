#include "cgroup/device_rules.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

constexpr std::string_view kAccesses = "rwm";

// `a` with what `b` has besides, in the kernel's order.
std::string With(const std::string& a, const std::string& b) {
  std::string out;
  for (char c : kAccesses) {
    if (a.find(c) != std::string::npos || b.find(c) != std::string::npos) out.push_back(c);
  }
  return out;
}
std::string Without(const std::string& a, const std::string& b) {
  std::string out;
  for (char c : kAccesses) {
    if (a.find(c) != std::string::npos && b.find(c) == std::string::npos) out.push_back(c);
  }
  return out;
}

bool SameDevices(const DeviceRule& a, const DeviceRule& b) {
  return std::tie(a.type, a.major, a.minor) == std::tie(b.type, b.major, b.minor);
}
bool Covers(const DeviceRule& wide, const DeviceRule& narrow) {
  auto covers = [](int64_t w, int64_t n) { return w == DeviceRule::kAny || w == n; };
  return wide.type == narrow.type && covers(wide.major, narrow.major) && covers(wide.minor, narrow.minor);
}
bool Overlap(const DeviceRule& a, const DeviceRule& b) {
  auto meet = [](int64_t x, int64_t y) { return x == DeviceRule::kAny || y == DeviceRule::kAny || x == y; };
  return a.type == b.type && meet(a.major, b.major) && meet(a.minor, b.minor);
}

Result<> ApplyOne(DeviceSet& set, const DeviceRule& rule) {
  auto& list = set.exceptions;
  if (rule.allow == set.allow_all) {  // takes exceptions back
    for (DeviceRule& each : list) {
      if (!Overlap(each, rule) || Without(each.access, rule.access) == each.access) continue;
      if (!Covers(rule, each)) {
        return Error(Code::kUnimplemented, StrCat("device rule ", Quote(RuleText(rule)), " makes a hole in ", Quote(RuleText(each))));
      }
      each.access = Without(each.access, rule.access);
    }
    std::erase_if(list, [](const DeviceRule& each) { return each.access.empty(); });
    return {};
  }
  auto known = std::find_if(list.begin(), list.end(), [&](const DeviceRule& each) { return SameDevices(each, rule); });
  if (known == list.end()) known = list.insert(list.end(), {rule.allow, rule.type, rule.major, rule.minor, ""});
  known->access = With(known->access, rule.access);
  return {};
}

// What the kernel says in devices.list. Exceptions of a set that allows all are not shown.
DeviceSet ParseList(std::string_view text) {
  DeviceSet set;
  for (std::string_view line : Split(text, '\n')) {
    std::vector<std::string_view> words = SplitWords(line);
    if (words.size() != 3 || words[0].size() != 1) continue;
    if (words[0] == "a") set.allow_all = true;
    size_t colon = words[1].find(':');
    if (colon == std::string_view::npos || words[0] == "a") continue;
    auto number = [](std::string_view digits) { return ParseInt<int64_t>(digits).value_or(DeviceRule::kAny); };
    set.exceptions.push_back({true, words[0][0], number(words[1].substr(0, colon)), number(words[1].substr(colon + 1)),
                              std::string(words[2])});
  }
  return set;
}

const DeviceRule* FindDevices(const std::vector<DeviceRule>& list, const DeviceRule& like) {
  for (const DeviceRule& each : list) {
    if (SameDevices(each, like)) return &each;
  }
  return nullptr;
}

// What has to change, in an order in which nothing that both allow is refused on the way.
std::vector<DeviceRule> Difference(const DeviceSet& now, const DeviceSet& wanted) {
  std::vector<DeviceRule> out;
  if (now.allow_all || wanted.allow_all) {
    out.push_back({.allow = wanted.allow_all});
    out.insert(out.end(), wanted.exceptions.begin(), wanted.exceptions.end());
    return out;
  }
  auto append = [&](bool allow, const std::vector<DeviceRule>& list, const std::vector<DeviceRule>& other) {
    for (DeviceRule each : list) {
      const DeviceRule* there = FindDevices(other, each);
      if (there != nullptr) each.access = Without(each.access, there->access);
      each.allow = allow;
      if (!each.access.empty()) out.push_back(std::move(each));
    }
  };
  append(true, wanted.exceptions, now.exceptions);
  append(false, now.exceptions, wanted.exceptions);
  return out;
}

}  // namespace

bool DeviceRule::ForEverything() const {
  return type == 'a' && major == kAny && minor == kAny && With(access, "") == kAccesses;
}

const std::vector<DeviceRule>& StandardDevices() {
  constexpr int64_t kAny = DeviceRule::kAny;
  static const std::vector<DeviceRule> kRules = {
      {true, 'c', kAny, kAny, "m"}, {true, 'b', kAny, kAny, "m"}, {true, 'c', 1, 3}, {true, 'c', 1, 5}, {true, 'c', 1, 7},
      {true, 'c', 1, 8}, {true, 'c', 1, 9}, {true, 'c', 5, 0}, {true, 'c', 5, 2}, {true, 'c', 136, kAny}};
  return kRules;
}

std::string RuleText(const DeviceRule& rule) {
  if (rule.ForEverything()) return "a";
  auto number = [](int64_t n) { return n == DeviceRule::kAny ? std::string("*") : StrCat(n); };
  return StrCat(std::string(1, rule.type), " ", number(rule.major), ":", number(rule.minor), " ", rule.access);
}

Result<DeviceSet> Evaluate(const std::vector<DeviceRule>& rules) {
  DeviceSet set;
  for (const DeviceRule& rule : rules) {
    if (rule.ForEverything()) {
      set = {.allow_all = rule.allow, .exceptions = {}};
      continue;
    }
    for (char type : {'c', 'b'}) {
      if (rule.type != 'a' && rule.type != type) continue;
      DeviceRule one = rule;
      one.type = type;
      TRY(ApplyOne(set, one));
    }
  }
  return set;
}

std::vector<DeviceRule> Merged(const std::vector<DeviceRule>& rules) {
  Result<DeviceSet> set = Evaluate(rules);
  if (!set) return rules;
  std::vector<DeviceRule> out = {{.allow = set->allow_all}};
  out.insert(out.end(), set->exceptions.begin(), set->exceptions.end());
  return out;
}

Result<> WriteDeviceRulesV1(const std::string& dir, const std::vector<DeviceRule>& rules) {
  DeviceSet wanted = TRY(Evaluate(rules), "cgroup v1");
  DeviceSet now = ParseList(TRY(sys::ReadFile(dir + "/devices.list")));
  sys::UniqueFd files[2];  // devices.deny, devices.allow
  for (const DeviceRule& rule : Difference(now, wanted)) {
    sys::UniqueFd& file = files[rule.allow];
    if (!file.ok()) file = TRY(sys::Open(dir + (rule.allow ? "/devices.allow" : "/devices.deny"), O_WRONLY));
    std::string text = RuleText(rule);
    if (write(file.get(), text.data(), text.size()) < 0) return Errno(errno, StrCat("device rule ", Quote(text), " in ", dir));
  }
  return {};
}

}  // namespace crisp::cgroup
