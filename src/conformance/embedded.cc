#include "conformance/embedded.h"

// The assembler reads the files: a compiler would need minutes for arrays of their size. CMake names the paths.
#define EMBED(symbol, path)                                                                                      \
  __asm__(".section .rodata\n.global crisptest_" #symbol "\n.balign 16\ncrisptest_" #symbol ":\n.incbin \"" path \
          "\"\n"                                                                                                 \
          ".global crisptest_" #symbol "_end\ncrisptest_" #symbol "_end:\n.byte 0\n.previous\n");                \
  extern "C" const char crisptest_##symbol[], crisptest_##symbol##_end[];

EMBED(cri, CRISPTEST_CRI_DESCRIPTORS)
EMBED(nri, CRISPTEST_NRI_DESCRIPTORS)
EMBED(ttrpc, CRISPTEST_TTRPC_DESCRIPTORS)
EMBED(guest, CRISPTEST_GUEST)
EMBED(report, CRISPTEST_REPORT)

namespace crisp::conformance::embedded {

#define VIEW(symbol) \
  return { crisptest_##symbol, static_cast<size_t>(crisptest_##symbol##_end - crisptest_##symbol) }

std::string_view CriDescriptors() { VIEW(cri); }
std::string_view NriDescriptors() { VIEW(nri); }
std::string_view TtrpcDescriptors() { VIEW(ttrpc); }
std::string_view Guest() { VIEW(guest); }
std::string_view ReportTemplate() { VIEW(report); }

}  // namespace crisp::conformance::embedded
