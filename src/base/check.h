// CHECK: for our own bugs, never for input, kernel answers or files on disk. Always on; it prints and aborts. Aborting
// crispd is acceptable because shims keep the pods and the next start recovers.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                    \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #condition);    \
      std::abort();                                                                         \
    }                                                                                       \
  } while (false)
