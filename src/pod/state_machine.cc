#include "pod/state_machine.h"

#include "base/strings.h"

namespace crisp::pod {

Life LifeOf(const ContainerRecord& record) {
  if (record.removing) return Life::kRemoving;
  if (!record.made) return Life::kMaking;
  if (record.finished_at != 0) return Life::kExited;
  if (record.started_at != 0) return Life::kRunning;
  if (record.start_asked_at != 0) return Life::kStarting;
  return Life::kCreated;
}

std::string_view LifeName(Life life) {
  switch (life) {
    case Life::kMaking: return "being made";
    case Life::kCreated: return "CONTAINER_CREATED";
    case Life::kStarting: return "being started";
    case Life::kRunning: return "CONTAINER_RUNNING";
    case Life::kExited: return "CONTAINER_EXITED";
    case Life::kRemoving: return "being removed";
  }
  return "unknown";
}

bool IsListed(const PodRecord& record) { return record.made; }
bool IsListed(const ContainerRecord& record) { return record.made; }

SandboxState ShownState(const PodRecord& record) {
  return record.phase == PodPhase::kReady ? SandboxState::kReady : SandboxState::kNotReady;
}

ContainerState ShownState(const ContainerRecord& record) {
  if (record.finished_at != 0) return ContainerState::kExited;
  if (record.started_at != 0) return ContainerState::kRunning;
  return ContainerState::kCreated;
}

std::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kStart: return "StartContainer";
    case Verb::kStop: return "StopContainer";
    case Verb::kRemove: return "RemoveContainer";
    case Verb::kExec: return "exec";
    case Verb::kAttach: return "attach";
    case Verb::kUpdate: return "UpdateContainerResources";
    case Verb::kReopenLog: return "ReopenContainerLog";
    case Verb::kCheckpoint: return "CheckpointContainer";
  }
  return "unknown";
}

static bool Allowed(Verb verb, Life life) {
  switch (verb) {
    case Verb::kStart: return life == Life::kCreated;
    case Verb::kStop:
    case Verb::kRemove: return life != Life::kMaking;
    case Verb::kExec:
    case Verb::kAttach: return life == Life::kRunning;
    case Verb::kUpdate: return life == Life::kCreated || life == Life::kRunning;
    // Only of a running one: the kubelet takes its rotation back when reopening fails, and an ended container would
    // otherwise lose its log file (nobody writes a new one).
    case Verb::kReopenLog: return life == Life::kRunning;
    case Verb::kCheckpoint: return life == Life::kRunning;
  }
  return false;
}

Result<> CheckAllowed(Verb verb, const ContainerRecord& record) {
  Life life = LifeOf(record);
  if (Allowed(verb, life)) return {};
  if (!IsListed(record)) return Error(Code::kNotFound, StrCat("container ", record.id.str(), " not found"));
  return Error(Code::kFailedPrecondition,
               StrCat(VerbName(verb), " of container ", record.id.str(), ": it is in state ", LifeName(life)));
}

}  // namespace crisp::pod
