// Lets the test program that includes this serve as the helper of sys::MakeUserns: kSelf.
#pragma once

#include <unistd.h>

#include <cstring>

#include "sys/userns.h"

namespace crisp::sys::testing {

inline constexpr char kSelf[] = "/proc/self/exe";

// Before main, which is GoogleTest's.
__attribute__((constructor)) inline void ServeAsHelper(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--hold-namespaces") == 0) _exit(HoldNamespaces(argv[2]));
}

}  // namespace crisp::sys::testing
