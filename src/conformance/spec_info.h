// The facts of a spec, for those who run and report: without GoogleTest.
#pragma once

#include <string>
#include <vector>

namespace crisp::conformance {

struct SpecOptions {
  std::vector<int> like;            // numbers of upstream critest's specs that check the same (docs/conformance.md)
  std::vector<std::string> faults;  // each must break it (fault.h)
  bool serial = false;              // runs while no other spec does
  int timeout_seconds = 180;
};

struct SpecInfo {
  std::string group, name, file;
  int line = 0;
  SpecOptions options;
  std::string FullName() const { return group + "." + name; }
};

const std::vector<SpecInfo>& AllSpecs();

}  // namespace crisp::conformance
