// Which verb is allowed when. Pure.
//
// A pod's phases (record.h):
//
//             RunPodSandbox                 StopPodSandbox                RemovePodSandbox
//   kMaking ───────────────► kReady ─────────────► kDown ──────────► kStopped ───────────► kRemoving ──► gone
//      │                       └── shim lost, reboot ──▲ │ ▲                                   ▲
//      │                                               │ └─┘ DEL failed: stays, is retried     │
//      └─ failed, crashed ─────────────────────────────┴───────────── undone ──────────────────┘
//
//   CRI shows READY for kReady, nothing for a pod that was never made, NOTREADY for everything else.
//
// A container's states (from the record's times; a later one wins):
//
//              CreateContainer             StartContainer                 exit event, exit file, StopContainer
//   kMaking ─────────────────► kCreated ─────────────────► kStarting ──► kRunning ─────────────────► kExited
//      │                          │  ▲                        │  │                                      │
//      │                          │  └── crash before answer ─┘  └── failed: exit 128, StartError ─────►│
//      └─ failed: undone          └──────────────────────── RemoveContainer (any state) ────────────────┴─► kRemoving ─► gone
//
//   CRI shows CREATED for kCreated and kStarting, nothing for a container that was never made.
#pragma once

#include "pod/record.h"

namespace crisp::pod {

enum class Life { kMaking, kCreated, kStarting, kRunning, kExited, kRemoving };

// What a record says.
Life LifeOf(const ContainerRecord& record);
std::string_view LifeName(Life life);  // as CRI names it: "CONTAINER_CREATED"

bool IsListed(const PodRecord& record);
bool IsListed(const ContainerRecord& record);
SandboxState ShownState(const PodRecord& record);
ContainerState ShownState(const ContainerRecord& record);

enum class Verb { kStart, kStop, kRemove, kExec, kAttach, kUpdate, kReopenLog, kCheckpoint };
std::string_view VerbName(Verb verb);  // "StartContainer"

// kFailedPrecondition says which state the container is in and which is wanted; kNotFound: it is being made or removed.
Result<> CheckAllowed(Verb verb, const ContainerRecord& record);

}  // namespace crisp::pod
