// What a process that is being started tells whoever started it. One socket (SOCK_SEQPACKET), closed by exec. Internal.
#pragma once

#include <sys/types.h>

#include <string>

#include "sys/fd.h"

namespace crisp::native {

struct Status {
  enum Kind : uint8_t {
    kPid = 1,       // number: the container's process, made by a helper
    kTerminal = 2,  // with the master
    kCreated = 3,   // waits for the start
    kAboutToRun = 4,
    kFailed = 5,    // number: errno or 0
  };
  uint8_t kind = 0;
  uint8_t code = 0;  // crisp::Code
  int32_t number = 0;
  char text[2000] = {};
};

// Blocking. In the children.
Result<> SendStatus(int socket, const Status& status, int descriptor = -1);
// False: nobody is there to be told.
bool SendFailure(int socket, const Error& error);
struct ReceivedStatus {
  enum { kNothing, kEnd, kStatus } state = kNothing;
  Status status;
  sys::UniqueFd descriptor;
};
Result<ReceivedStatus> ReceiveStatus(int socket);

}  // namespace crisp::native
