// A container's life: made, started, removed. What the commands create, run, start, kill and delete have in common.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "native/launcher.h"
#include "ocicli/session.h"

namespace crisp::ocicli {

// Makes the container's process in another way than the launcher: restores it. Its number; it runs.
using MakeProcess = std::function<Result<pid_t>(const native::Launch&, const cgroup::Cgroups&, const Record&)>;

struct CreateOptions {
  std::string id, bundle, console_socket, pid_file;
  int64_t preserve_fds = 0;
  bool no_pivot = false;
  bool detach = true;  // false: a terminal may stay with us
  MakeProcess make_process;  // instead of the launcher; null: that
};

struct Created {
  Record record;
  sys::UniqueFd lock;
  std::optional<native::Launching> launching;  // waits for its start; nothing with make_process
  sys::UniqueFd terminal;       // where there is one and nobody else has asked for it
};

// On an error nothing is left of it. Blocking.
Result<Created> CreateContainer(const Session& session, const CreateOptions& options);

// Lets a created one run and waits until its program does, then runs the poststart hooks. With `launching` an error of the
// program's start is known; without, it shows as a container that has stopped. The lock is held by the caller.
Result<> StartContainer(const Session& session, const Record& record, native::Launching* launching);

// Ends what is left of its processes, removes the cgroup, runs the poststop hooks, forgets it. The lock is held.
Result<> RemoveContainer(const Session& session, const Record& record);

// Waits until `launching` has come to `wanted`.
Result<> Await(native::Launching& launching, native::Launching::Progress wanted);
// What is not to outlive an error: the processes of a start.
void KillAndReap(const native::Launching& launching);
void Reap(pid_t pid);
// The number alone, as runc writes it; "" = none is wanted.
Result<> WritePidFile(const std::string& path, pid_t pid);
// Of --preserve-fds: checks that descriptors 3 … 3+n-1 are there.
Result<int> PreservedFds(int64_t count);

}  // namespace crisp::ocicli
