#include "ctl/client.h"

#include "base/strings.h"
#include "ctl/tracing.h"

namespace crisp::ctl {

namespace {

constexpr std::chrono::milliseconds kRetryFirst{500}, kRetryMost{5000};
constexpr int kMessageBytesMax = 64 << 20;  // an ExecSync answer holds up to 16 MiB of each stream

std::shared_ptr<grpc::Channel> Channel(const std::string& endpoint, Tracer* tracer) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kRetryFirst.count());
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kRetryMost.count());
  // A proxy meant for the web is no way to a socket of this machine.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::string target = endpoint.starts_with('/') ? StrCat("unix://", endpoint) : endpoint;
  if (target.starts_with("tcp://")) target.erase(0, 6);
  auto credentials = grpc::InsecureChannelCredentials();
  if (tracer == nullptr) return grpc::CreateCustomChannel(target, credentials, arguments);
  return grpc::experimental::CreateCustomChannelWithInterceptors(target, credentials, arguments,
                                                                 tracer->MakeInterceptors());
}

}  // namespace

Error FromStatus(const grpc::Status& status, const std::string& endpoint) {
  auto code = static_cast<Code>(status.error_code());
  std::string message = status.error_message();
  if (code == Code::kUnavailable && message.find("failed to connect") != std::string::npos) {
    return Error(code, StrCat("no runtime answers on ", endpoint, ": ",
                              std::string_view(message).substr(message.rfind("; last error: ") + 1)));
  }
  if (code == Code::kUnimplemented) {
    return Error(code, StrCat("the runtime on ", endpoint, " does not implement this call", message.empty() ? "" : ": ",
                              message));
  }
  if (code == Code::kDeadlineExceeded && message == "Deadline Exceeded") {
    return Error(code, StrCat("no answer from ", endpoint, " in time"));
  }
  return Error(code, message.empty() ? std::string(CodeName(code)) : message);
}

Client::Client(std::string runtime_endpoint, std::string image_endpoint, std::chrono::nanoseconds timeout, int retries,
               Tracer* tracer)
    : runtime_endpoint_(std::move(runtime_endpoint)),
      image_endpoint_(std::move(image_endpoint)),
      timeout_(timeout),
      retries_(retries) {
  if (image_endpoint_.empty()) image_endpoint_ = runtime_endpoint_;
  channel_ = Channel(runtime_endpoint_, tracer);
  image_channel_ = image_endpoint_ == runtime_endpoint_ ? channel_ : Channel(image_endpoint_, tracer);
  runtime_ = cri::RuntimeService::NewStub(channel_);
  images_ = cri::ImageService::NewStub(image_channel_);
  own_ = ::crisp::v1::Images::NewStub(image_channel_);
}

void Client::Await(grpc::Channel& channel) const {
  if (retries_ == 0) return;
  auto patience = retries_ < 0 ? std::chrono::milliseconds::max() : std::chrono::milliseconds(0);
  auto delay = kRetryFirst;
  for (int i = 0; i < retries_ && patience < std::chrono::hours(1); ++i) {
    patience += delay;
    delay = std::min(delay * 2, kRetryMost);
  }
  patience = std::min<std::chrono::milliseconds>(patience, std::chrono::hours(24 * 365));
  // gRPC tries again by itself; what is still missing at the end is the call's error.
  (void)channel.WaitForConnected(std::chrono::system_clock::now() + patience);
}

void Client::SetDeadline(grpc::ClientContext& context, std::chrono::nanoseconds timeout) const {
  if (timeout == std::chrono::nanoseconds::zero()) timeout = timeout_;
  if (timeout == kNoTimeout || timeout == std::chrono::nanoseconds::zero()) return;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::microseconds>(timeout));
}

}  // namespace crisp::ctl
