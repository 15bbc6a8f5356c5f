#include "daemon/trim.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

namespace crisp::daemon {
namespace {

// Segments that cannot be written are as they are in the file: nothing is lost with their pages. (What is relocated and
// then made read-only lies in a writable segment.)
int DropConstantPages(dl_phdr_info* object, size_t, void*) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
    uintptr_t from = begin & ~(page - 1);
    madvise(reinterpret_cast<void*>(from), begin + segment.p_memsz - from, MADV_DONTNEED);
  }
  return 0;
}

}  // namespace

void TrimMemory() {
  malloc_trim(0);
  dl_iterate_phdr(DropConstantPages, nullptr);
}

}  // namespace crisp::daemon
