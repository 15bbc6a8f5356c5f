// Keeps libstdc++'s exception machinery, and with it locales and demangling, out of the program: nothing in the shim
// throws or catches, so what the library would throw (a logic error of ours, or no memory left) ends the program instead.
#ifdef CRISP_SHIM_LEAN
#include <cstdlib>
#include <new>

#include "base/result.h"

namespace {
[[noreturn]] void Die(const char* what) { crisp::internal::DieOfBadAccess(what); }
}  // namespace

void* operator new(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) Die("out of memory");
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace std {
void __throw_length_error(const char* what) { Die(what); }
void __throw_logic_error(const char* what) { Die(what); }
void __throw_out_of_range(const char* what) { Die(what); }
void __throw_out_of_range_fmt(const char* what, ...) { Die(what); }
void __throw_invalid_argument(const char* what) { Die(what); }
void __throw_bad_alloc() { Die("out of memory"); }
void __throw_bad_array_new_length() { Die("out of memory"); }
void __throw_bad_function_call() { Die("empty function called"); }
void __throw_system_error(int) { Die("system error"); }
}  // namespace std
#endif
