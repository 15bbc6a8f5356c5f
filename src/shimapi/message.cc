#include "shimapi/message.h"

#include "base/strings.h"
#include "codec/fields.h"

namespace crisp::shimapi {

using codec::FieldReader;
using codec::FieldWriter;
using codec::GetInt;
using codec::PutInt;

template <class V> void Fields(V& v, Hello& m) { v(m.client); }
template <class V> void Fields(V& v, Sysctl& m) { v(m.name), v(m.value); }
template <class V> void Fields(V& v, SetupPod& m) {
  v(m.own_ipc), v(m.own_uts), v(m.shared_pid), v(m.oom_score_adj), v(m.hostname), v(m.netns_path), v(m.sysctls),
      v(m.userns), v(m.empty_mounts);
}
template <class V> void Fields(V& v, ContainerState& m) {
  v(m.id), v(m.phase), v(m.pid), v(m.code), v(m.signal), v(m.oom_killed), v(m.finished_at_unix_nanos), v(m.log_bytes_lost);
}
template <class V> void Fields(V& v, HelloReply& m) {
  v(m.version), v(m.shim_pid), v(m.set_up), v(m.net), v(m.ipc), v(m.uts), v(m.pid), v(m.containers), v(m.user);
}
template <class V> void Fields(V& v, StartContainer& m) {
  v(m.id), v(m.argv), v(m.pid_file), v(m.log_path), v(m.terminal), v(m.stdin_open), v(m.stdin_once), v(m.console_socket),
      v(m.oom_event_files), v(m.native);
}
template <class V> void Fields(V& v, PrepareContainer& m) { v(m.id), v(m.terminal), v(m.stdin_open); }
template <class V> void Fields(V& v, Started& m) { v(m.pid); }
template <class V> void Fields(V& v, SignalContainer& m) { v(m.id), v(m.signal); }
template <class V> void Fields(V& v, ReopenLog& m) { v(m.id); }
template <class V> void Fields(V& v, ForgetContainer& m) { v(m.id); }
template <class V> void Fields(V& v, StartExec& m) {
  v(m.exec), v(m.container), v(m.argv), v(m.pid_file), v(m.cgroup_dirs), v(m.native), v(m.console_socket);
}
template <class V> void Fields(V& v, KillExec& m) { v(m.exec); }
template <class V> void Fields(V& v, Cancel& m) { v(m.seq); }
template <class V> void Fields(V&, Shutdown&) {}
template <class V> void Fields(V&, Ok&) {}
template <class V> void Fields(V& v, ErrorReply& m) {
  v(m.code), v(m.os_errno), v(m.message), v(m.output), v(m.from_runtime);
}
template <class V> void Fields(V& v, ContainerExited& m) { v(m.state); }
template <class V> void Fields(V& v, ExecExited& m) { v(m.exec), v(m.code), v(m.signal); }
template <class V> void Fields(V& v, Attach& m) { v(m.attach), v(m.container), v(m.in), v(m.out), v(m.err); }
template <class V> void Fields(V& v, Attached& m) { v(m.terminal), v(m.in), v(m.out), v(m.err); }
template <class V> void Fields(V& v, Detach& m) { v(m.attach); }
template <class V> void Fields(V& v, ResizeTerminal& m) { v(m.container), v(m.width), v(m.height); }
template <class V> void Fields(V& v, AttachEnded& m) { v(m.attach), v(m.reason), v(m.code), v(m.signal); }

template <class Message>
Result<std::string> Encode(uint32_t seq, const Message& message) {
  std::string bytes;
  PutInt(bytes, kMagic);
  PutInt(bytes, uint32_t{0});  // the length, known at the end
  PutInt(bytes, static_cast<uint16_t>(Message::kType));
  PutInt(bytes, uint16_t{0});  // flags, none yet; ignored
  PutInt(bytes, seq);
  FieldWriter writer(bytes);
  Fields(writer, const_cast<Message&>(message));  // only read; Fields is shared with the reader
  if (bytes.size() > kMessageBytesMax) {
    return Error(Code::kResourceExhausted, StrCat("shim message of ", bytes.size(), " bytes is longer than ", kMessageBytesMax));
  }
  std::string length;
  PutInt(length, static_cast<uint32_t>(bytes.size()));
  bytes.replace(4, 4, length);
  return bytes;
}

Result<Header> DecodeHeader(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || GetInt<uint32_t>(bytes) != kMagic) {
    return Error(Code::kInvalidArgument, "not a shim message");
  }
  if (GetInt<uint32_t>(bytes.substr(4)) != bytes.size() || bytes.size() > kMessageBytesMax) {
    return Error(Code::kInvalidArgument, "shim message was cut");
  }
  return Header{static_cast<Type>(GetInt<uint16_t>(bytes.substr(8))), GetInt<uint32_t>(bytes.substr(12))};
}

template <class Message>
Result<Message> Decode(std::string_view bytes) {
  Header header = TRY(DecodeHeader(bytes));
  if (header.type != Message::kType) {
    return Error(Code::kInvalidArgument, StrCat("shim message of type ", static_cast<int>(header.type), " where ",
                                                static_cast<int>(Message::kType), " was expected"));
  }
  Message message;
  FieldReader reader(bytes.substr(kHeaderBytes));
  Fields(reader, message);
  if (reader.failed()) {
    return Error(Code::kInvalidArgument, StrCat("shim message of type ", static_cast<int>(header.type), " is malformed"));
  }
  return message;
}

#define CRISP_SHIM_MESSAGE(Message)                                         \
  template Result<std::string> Encode<Message>(uint32_t, const Message&);   \
  template Result<Message> Decode<Message>(std::string_view);
CRISP_SHIM_MESSAGE(Hello)
CRISP_SHIM_MESSAGE(SetupPod)
CRISP_SHIM_MESSAGE(HelloReply)
CRISP_SHIM_MESSAGE(StartContainer)
CRISP_SHIM_MESSAGE(PrepareContainer)
CRISP_SHIM_MESSAGE(Started)
CRISP_SHIM_MESSAGE(SignalContainer)
CRISP_SHIM_MESSAGE(ReopenLog)
CRISP_SHIM_MESSAGE(ForgetContainer)
CRISP_SHIM_MESSAGE(StartExec)
CRISP_SHIM_MESSAGE(KillExec)
CRISP_SHIM_MESSAGE(Cancel)
CRISP_SHIM_MESSAGE(Shutdown)
CRISP_SHIM_MESSAGE(Ok)
CRISP_SHIM_MESSAGE(ErrorReply)
CRISP_SHIM_MESSAGE(ContainerExited)
CRISP_SHIM_MESSAGE(ExecExited)
CRISP_SHIM_MESSAGE(Attach)
CRISP_SHIM_MESSAGE(Attached)
CRISP_SHIM_MESSAGE(Detach)
CRISP_SHIM_MESSAGE(ResizeTerminal)
CRISP_SHIM_MESSAGE(AttachEnded)
#undef CRISP_SHIM_MESSAGE

}  // namespace crisp::shimapi
