// What the sanitizers of the presets asan and tsan do by default in our programs; part of no other build.
//
// A report must not get lost: crispd's stderr may be nobody's, and a shim has a clean environment, so that ASAN_OPTIONS
// does not reach it. Each process writes its reports to a file below CRISP_SANITIZER_REPORTS, where tests/harness.py
// looks after each test. Unit tests do not link this: theirs go to stderr.
#define REPORTS "log_path=" CRISP_SANITIZER_REPORTS "/report"

// Called before the sanitizer itself is ready.
#define EARLY __attribute__((no_sanitize("address", "thread", "undefined"), visibility("default")))

extern "C" {
EARLY const char* __asan_default_options();
EARLY const char* __ubsan_default_options();
EARLY const char* __tsan_default_options();

const char* __asan_default_options() { return REPORTS; }
const char* __ubsan_default_options() { return REPORTS ":print_stacktrace=1"; }
const char* __tsan_default_options() { return REPORTS; }
}
