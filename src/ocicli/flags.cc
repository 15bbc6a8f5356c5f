#include "ocicli/flags.h"

#include "base/strings.h"

namespace crisp::ocicli {

namespace {

const FlagSpec* Find(const std::vector<FlagSpec>& specs, std::string_view name) {
  for (const FlagSpec& spec : specs) {
    for (std::string_view each : Split(spec.names, ',')) {
      if (each == name) return &spec;
    }
  }
  return nullptr;
}

std::string NameOf(const FlagSpec& spec) { return std::string(Split(spec.names, ',')[0]); }

bool IsFlag(std::string_view word) { return word.size() > 1 && word[0] == '-' && word != "--"; }

}  // namespace

Result<Flags> Flags::Parse(const std::vector<FlagSpec>& specs, const std::vector<std::string>& words) {
  Flags flags;
  size_t at = 0;
  for (; at < words.size() && IsFlag(words[at]); ++at) {
    std::string_view word = words[at];
    word.remove_prefix(word.starts_with("--") ? 2 : 1);
    size_t equals = word.find('=');
    const FlagSpec* spec = Find(specs, word.substr(0, equals));
    if (spec == nullptr) return Error(Code::kInvalidArgument, StrCat("unknown flag ", Quote(words[at])));
    std::string value = "true";
    if (equals != std::string_view::npos) {
      value = word.substr(equals + 1);
    } else if (spec->kind != FlagSpec::kBool) {
      if (at + 1 >= words.size()) return Error(Code::kInvalidArgument, StrCat("flag ", Quote(words[at]), " needs a value"));
      value = words[++at];
    }
    if (spec->kind == FlagSpec::kBool && value != "true" && value != "false") {
      return Error(Code::kInvalidArgument, StrCat("flag ", Quote(words[at]), " is true or false"));
    }
    std::vector<std::string>& values = flags.values_[NameOf(*spec)];
    if (spec->kind != FlagSpec::kList) values.clear();
    values.push_back(std::move(value));
  }
  if (at < words.size() && words[at] == "--") ++at;
  flags.words_.assign(words.begin() + static_cast<ptrdiff_t>(at), words.end());
  return flags;
}

bool Flags::On(const std::string& name) const { return Text(name) == "true"; }

std::string Flags::Text(const std::string& name, const std::string& fallback) const {
  auto found = values_.find(name);
  return found == values_.end() ? fallback : found->second.back();
}

std::vector<std::string> Flags::List(const std::string& name) const {
  auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

Result<int64_t> Flags::Number(const std::string& name, int64_t fallback) const {
  if (!Has(name)) return fallback;
  auto value = ParseInt<int64_t>(Text(name));
  if (!value) return Error(Code::kInvalidArgument, StrCat("--", name, " ", Quote(Text(name)), " is no number"));
  return *value;
}

std::string FlagsHelp(const std::vector<FlagSpec>& specs) {
  std::string out;
  for (const FlagSpec& spec : specs) {
    std::string names;
    for (std::string_view name : Split(spec.names, ',')) {
      names += StrCat(names.empty() ? "" : ", ", name.size() == 1 ? "-" : "--", name);
    }
    if (spec.kind != FlagSpec::kBool) names += " value";
    names.resize(std::max<size_t>(names.size() + 2, 34), ' ');
    out += StrCat("   ", names, spec.help, "\n");
  }
  return out;
}

}  // namespace crisp::ocicli
