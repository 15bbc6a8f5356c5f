// TrimMemory: gives back what the process holds and does not need: free blocks of the heap, and pages of the programs'
// code and constants that were needed once, mostly by the start. Those that are needed again come back from the page
// cache, sixteen at a time and in about a microsecond. Threading: any thread.
#pragma once

namespace crisp::daemon {

void TrimMemory();

}  // namespace crisp::daemon
