// Messages from a shim or a crispd of another version, or from a stranger on the socket. What decodes must encode to
// something that decodes to the same again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "shimapi/message.h"

namespace shimapi = crisp::shimapi;

namespace {

template <class Message>
void TryOne(std::string_view bytes) {
  auto message = shimapi::Decode<Message>(bytes);
  if (!message) return;
  auto encoded = shimapi::Encode(7, *message);
  if (!encoded) return;  // too large by an unlucky byte
  auto again = shimapi::Decode<Message>(*encoded);
  if (!again || *shimapi::Encode(7, *again) != *encoded) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto header = shimapi::DecodeHeader(bytes);
  if (!header) return 0;
  switch (header->type) {
    case shimapi::Type::kHello: TryOne<shimapi::Hello>(bytes); break;
    case shimapi::Type::kSetupPod: TryOne<shimapi::SetupPod>(bytes); break;
    case shimapi::Type::kStartContainer: TryOne<shimapi::StartContainer>(bytes); break;
    case shimapi::Type::kSignalContainer: TryOne<shimapi::SignalContainer>(bytes); break;
    case shimapi::Type::kReopenLog: TryOne<shimapi::ReopenLog>(bytes); break;
    case shimapi::Type::kPrepareContainer: TryOne<shimapi::PrepareContainer>(bytes); break;
    case shimapi::Type::kForgetContainer: TryOne<shimapi::ForgetContainer>(bytes); break;
    case shimapi::Type::kStartExec: TryOne<shimapi::StartExec>(bytes); break;
    case shimapi::Type::kKillExec: TryOne<shimapi::KillExec>(bytes); break;
    case shimapi::Type::kCancel: TryOne<shimapi::Cancel>(bytes); break;
    case shimapi::Type::kShutdown: TryOne<shimapi::Shutdown>(bytes); break;
    case shimapi::Type::kAttach: TryOne<shimapi::Attach>(bytes); break;
    case shimapi::Type::kDetach: TryOne<shimapi::Detach>(bytes); break;
    case shimapi::Type::kResizeTerminal: TryOne<shimapi::ResizeTerminal>(bytes); break;
    case shimapi::Type::kOk: TryOne<shimapi::Ok>(bytes); break;
    case shimapi::Type::kError: TryOne<shimapi::ErrorReply>(bytes); break;
    case shimapi::Type::kHelloReply: TryOne<shimapi::HelloReply>(bytes); break;
    case shimapi::Type::kStarted: TryOne<shimapi::Started>(bytes); break;
    case shimapi::Type::kContainerExited: TryOne<shimapi::ContainerExited>(bytes); break;
    case shimapi::Type::kExecExited: TryOne<shimapi::ExecExited>(bytes); break;
    case shimapi::Type::kAttached: TryOne<shimapi::Attached>(bytes); break;
    case shimapi::Type::kAttachEnded: TryOne<shimapi::AttachEnded>(bytes); break;
  }
  return 0;
}
