// Command lines as runc understands them: flags end at the first word that is none, "-name" is the same as "--name", and
// a value stands behind "=" or is the next word. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::ocicli {

struct FlagSpec {
  enum Kind { kBool, kText, kList };
  const char* names;  // "bundle,b": the first is its name
  Kind kind = kBool;
  const char* help = "";
};

class Flags {
 public:
  // The flags at the front of `words`; the others are left in words(). kInvalidArgument names the word.
  static Result<Flags> Parse(const std::vector<FlagSpec>& specs, const std::vector<std::string>& words);

  bool Has(const std::string& name) const { return values_.contains(name); }
  bool On(const std::string& name) const;
  std::string Text(const std::string& name, const std::string& fallback = "") const;
  std::vector<std::string> List(const std::string& name) const;
  // kInvalidArgument: no number.
  Result<int64_t> Number(const std::string& name, int64_t fallback) const;
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> words_;
};

// The list of flags for --help.
std::string FlagsHelp(const std::vector<FlagSpec>& specs);

}  // namespace crisp::ocicli
