// The messages between crispd and a pod's crisp-shim, as values. docs/formats/shim-protocol.md describes the bytes.
//
// One message is one datagram of a SOCK_SEQPACKET socket, at most kMessageBytesMax. A shim may be years older than its
// crispd, so: fields are only ever appended to a message; a reader leaves fields that are missing at their defaults and
// ignores what follows the last one it knows; a type it does not know is answered by ErrorReply{kUnimplemented}.
// Every length is checked against what is there before it is used (an old crispd or shim, or a stranger, may send
// anything). Pure: no I/O. All types are values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::shimapi {

inline constexpr uint32_t kMagic = 0x31485343;  // "CSH1", little endian
inline constexpr size_t kHeaderBytes = 16;
inline constexpr size_t kMessageBytesMax = 64 * 1024;
inline constexpr size_t kMessageFdsMax = 8;
// In the shim this descriptor is <run dir>/tmp: /proc/<shim pid>/fd/4/<name> is a short path to a socket in there, where
// the run directory's own would not fit into a sockaddr_un.
inline constexpr int kShimTmpDescriptor = 4;
// crisp-shim --fork-server: its socket, whose other end is crispd's.
inline constexpr int kForkServerDescriptor = 3;
inline constexpr char kForkServerOption[] = "--fork-server";

enum class Type : uint16_t {
  // crispd asks; each is answered once, by a message with the same sequence number.
  kHello = 1,
  kSetupPod = 2,
  kStartContainer = 3,
  kSignalContainer = 4,
  kReopenLog = 5,
  kForgetContainer = 6,
  kStartExec = 7,
  kKillExec = 8,
  kCancel = 9,
  kShutdown = 10,
  kAttach = 11,
  kDetach = 12,
  kResizeTerminal = 13,
  kPrepareContainer = 14,
  // the shim answers
  kOk = 64,
  kError = 65,
  kHelloReply = 66,
  kStarted = 67,
  kAttached = 68,
  // the shim tells, sequence number 0
  kContainerExited = 96,
  kExecExited = 97,
  kAttachEnded = 98,
};

struct Header {
  Type type{};
  uint32_t seq = 0;
};

// Who is there? HelloReply. Makes the connection a receiver of events.
struct Hello {
  static constexpr Type kType = Type::kHello;
  std::string client;  // version of crispd, for the shim's log
};

struct Sysctl {
  std::string name, value;  // "net.ipv4.ip_forward"
};

// First thing a new shim is told. HelloReply. Carries the pod's network namespace, if it has one; then, with `userns`,
// the pod's user namespace and, as far as they are the pod's own, IPC and UTS namespaces that it owns.
struct SetupPod {
  static constexpr Type kType = Type::kSetupPod;
  bool own_ipc = false, own_uts = false, shared_pid = false;
  int32_t oom_score_adj = 0;
  std::string hostname;
  std::string netns_path;  // only reported back
  std::vector<Sysctl> sysctls;
  bool userns = false;
  // With shared_pid: a file of a mount namespace with nothing in it, for the init; "": it leaves a copy of the node's.
  std::string empty_mounts;
};

struct ContainerState {
  enum Phase : uint8_t { kStarting = 0, kRunning = 1, kExited = 2 };
  std::string id;
  uint8_t phase = kStarting;
  int32_t pid = 0;
  int32_t code = 0, signal = 0;
  bool oom_killed = false;
  int64_t finished_at_unix_nanos = 0;
  uint64_t log_bytes_lost = 0;  // thrown away because the log could not be written (disk full)
};

struct HelloReply {
  static constexpr Type kType = Type::kHelloReply;
  std::string version;  // of the shim
  int32_t shim_pid = 0;
  bool set_up = false;  // SetupPod was done
  std::string net, ipc, uts, pid;  // namespace paths, "" = the node's
  std::vector<ContainerState> containers;
  std::string user;
};

// Runs a detached OCI runtime, or starts the process itself. Started when it succeeded, ErrorReply with the tail of its stderr when not.
struct StartContainer {
  static constexpr Type kType = Type::kStartContainer;
  std::string id;
  std::vector<std::string> argv;  // complete; argv[0] is looked up in PATH
  std::string pid_file;           // the runtime writes it; the shim reads and removes it
  std::string log_path;           // "" = output is thrown away
  bool terminal = false, stdin_open = false, stdin_once = false;
  std::string console_socket;     // with terminal: file name in the run directory's tmp/, named in argv too
  std::vector<std::string> oom_event_files;
  // No runtime is run, `argv`, `pid_file` and `console_socket` say nothing: carries a file with a native::Launch.
  bool native = false;
};

// Makes the process of a StartContainer with `native` that is likely to come: it waits for that in its namespaces, and
// ends with the connection, and by ForgetContainer. Ok, when it has begun. Carries the launch: of a process in a PID
// namespace of its own, without hooks that are run outside. StartContainer carries the same, and does all of it where
// nothing has become of this.
struct PrepareContainer {
  static constexpr Type kType = Type::kPrepareContainer;
  std::string id;
  bool terminal = false, stdin_open = false;
};

struct Started {
  static constexpr Type kType = Type::kStarted;
  int32_t pid = 0;
};

struct SignalContainer {  // Ok, also when it does not run; ErrorReply{kNotFound} when unknown
  static constexpr Type kType = Type::kSignalContainer;
  std::string id;
  int32_t signal = 0;
};

struct ReopenLog {  // Ok
  static constexpr Type kType = Type::kReopenLog;
  std::string id;
};

struct ForgetContainer {  // Ok, once what runs of it was killed and has ended; also when unknown
  static constexpr Type kType = Type::kForgetContainer;
  std::string id;
};

// Runs a detached exec of an OCI runtime. Carries the descriptors stdin, stdout and stderr. Started or ErrorReply, then
// ExecExited. When the connection that asked for it closes, the exec is killed.
struct StartExec {
  static constexpr Type kType = Type::kStartExec;
  uint64_t exec = 0;  // chosen by crispd, unique in this connection
  std::string container;
  std::vector<std::string> argv;
  std::string pid_file;
  // Sub-cgroups of the container's cgroup that the runtime is told (in argv) to put the process into. The shim makes
  // them, kills through the first of them, and removes them.
  std::vector<std::string> cgroup_dirs;
  // As with StartContainer: a fourth descriptor, a file with a native::ExecLaunch. The terminal, where there is one, is sent
  // to the socket of this name in the run directory's tmp/.
  bool native = false;
  std::string console_socket;
};

struct KillExec {  // Ok: every process of the exec has been sent SIGKILL. Unknown: Ok
  static constexpr Type kType = Type::kKillExec;
  uint64_t exec = 0;
};

struct Cancel {  // Ok: the runtime of the StartContainer or StartExec with this number, if it still runs, is killed
  static constexpr Type kType = Type::kCancel;
  uint32_t seq = 0;
};

struct Shutdown {  // Ok, after everything was killed; then the shim ends
  static constexpr Type kType = Type::kShutdown;
};

// Attaches a client to a running container: from now on it gets what is written to the log. Carries the shim's ends of
// pipes for what is wanted, in the order stdin, stdout, stderr. Attached or ErrorReply, then AttachEnded, unless Detach
// or the end of the connection comes first.
struct Attach {
  static constexpr Type kType = Type::kAttach;
  uint64_t attach = 0;  // chosen by crispd, unique in this connection
  std::string container;
  bool in = false, out = false, err = false;
};

struct Attached {  // what the container has: descriptors for anything else were closed
  static constexpr Type kType = Type::kAttached;
  bool terminal = false;
  bool in = false, out = false, err = false;
};

struct Detach {  // Ok, also when unknown
  static constexpr Type kType = Type::kDetach;
  uint64_t attach = 0;
};

struct ResizeTerminal {  // Ok; ErrorReply{kFailedPrecondition} without a terminal
  static constexpr Type kType = Type::kResizeTerminal;
  std::string container;
  uint16_t width = 0, height = 0;  // in characters
};

struct Ok {
  static constexpr Type kType = Type::kOk;
};

struct ErrorReply {
  static constexpr Type kType = Type::kError;
  int32_t code = 0;  // crisp::Code
  int32_t os_errno = 0;
  std::string message;
  std::string output;     // tail of what the runtime wrote to stdout and stderr
  bool from_runtime = false;  // the runtime ran and failed: its log says more
};

struct ContainerExited {
  static constexpr Type kType = Type::kContainerExited;
  ContainerState state;
};

struct ExecExited {
  static constexpr Type kType = Type::kExecExited;
  uint64_t exec = 0;
  int32_t code = 0, signal = 0;
};

struct AttachEnded {
  static constexpr Type kType = Type::kAttachEnded;
  enum Reason : uint8_t { kContainerEnded = 0, kNotReading = 1 };
  uint64_t attach = 0;
  uint8_t reason = kContainerEnded;
  int32_t code = 0, signal = 0;  // of the container
};

// The message's bytes. kResourceExhausted when it would not fit into kMessageBytesMax.
template <class Message>
Result<std::string> Encode(uint32_t seq, const Message& message);

// Checks magic, length and that `bytes` is one whole message. kInvalidArgument if not.
Result<Header> DecodeHeader(std::string_view bytes);
// The body of a message whose header has been checked to be of Message's type.
template <class Message>
Result<Message> Decode(std::string_view bytes);

}  // namespace crisp::shimapi
