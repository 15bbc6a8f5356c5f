#include "conformance/cri.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "base/strings.h"
#include "conformance/schema.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr int kMessageBytesMax = 64 << 20;  // an ExecSync answer holds up to 16 MiB of each stream

std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);  // a daemon that restarts is found again at once
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 200);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  std::string target = endpoint.starts_with('/') ? StrCat("unix://", endpoint) : endpoint;
  if (target.starts_with("tcp://")) target.erase(0, 6);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

Error FromStatus(const grpc::Status& status) {
  auto code = static_cast<Code>(status.error_code());
  return Error(code, status.error_message().empty() ? std::string(CodeName(code)) : status.error_message());
}

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

class StreamImpl : public Cri::Stream {
 public:
  StreamImpl(grpc::GenericStub& stub, const std::string& path, std::string output, const std::string& request)
      : output_(std::move(output)) {
    call_ = stub.PrepareCall(&context_, path, &queue_);
    call_->StartCall(Tag(1));
    if (!Await()) return;
    call_->WriteLast(ToBuffer(request), grpc::WriteOptions(), Tag(2));
    Await();
  }
  ~StreamImpl() override {
    context_.TryCancel();
    if (reading_) Await();
    if (!finished_) Finish();
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  Result<Json> Next(milliseconds timeout) override {
    std::string bytes = TRY(NextRaw(timeout));
    return Schema::Get().Decode(output_, bytes);
  }

  Result<std::string> NextRaw(milliseconds timeout) override {
    if (finished_) return Ended();
    if (!reading_) call_->Read(&buffer_, Tag(3));
    reading_ = true;
    void* tag;
    bool ok = false;
    auto deadline = std::chrono::system_clock::now() + timeout;
    if (queue_.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) {
      return Error(Code::kDeadlineExceeded, "nothing came in time");
    }
    reading_ = false;
    if (ok) return ToString(buffer_);
    Finish();
    return Ended();
  }

  void Cancel() override { context_.TryCancel(); }

 private:
  static void* Tag(intptr_t number) { return reinterpret_cast<void*>(number); }
  bool Await() {
    void* tag;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }
  void Finish() {
    call_->Finish(&status_, Tag(4));
    Await();
    finished_ = true;
  }
  Error Ended() const {
    if (status_.ok()) return Error(Code::kOutOfRange, "the stream has ended");
    return FromStatus(status_);
  }

  std::string output_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer buffer_;
  grpc::Status status_;
  bool reading_ = false, finished_ = false;
};

}  // namespace

struct Cri::Impl {
  Impl(std::shared_ptr<grpc::Channel> runtime_channel, std::shared_ptr<grpc::Channel> image_channel)
      : runtime(std::move(runtime_channel)), images(std::move(image_channel)) {}
  grpc::GenericStub& For(std::string_view path) {
    return path.starts_with("/runtime.v1.ImageService/") ? images : runtime;
  }

  grpc::GenericStub runtime, images;
  milliseconds runtime_timeout{}, image_timeout{};
};

Cri::Cri(const std::string& runtime_endpoint, const std::string& image_endpoint, milliseconds runtime_timeout,
         milliseconds image_timeout) {
  auto runtime = Connect(runtime_endpoint);
  bool shared = image_endpoint.empty() || image_endpoint == runtime_endpoint;
  impl_ = std::make_unique<Impl>(runtime, shared ? runtime : Connect(image_endpoint));
  impl_->runtime_timeout = runtime_timeout;
  impl_->image_timeout = image_timeout;
}

Cri::~Cri() = default;

Result<std::string> Cri::CallRaw(const std::string& path, const std::string& request, milliseconds timeout,
                                 std::chrono::nanoseconds* took) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);  // of a runtime that is restarting
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::CompletionQueue queue;
  grpc::ByteBuffer reply;
  grpc::Status status;
  auto begin = std::chrono::steady_clock::now();
  auto call = impl_->For(path).PrepareUnaryCall(&context, path, ToBuffer(request), &queue);
  call->StartCall();
  call->Finish(&reply, &status, nullptr);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (took != nullptr) *took = std::chrono::steady_clock::now() - begin;
  if (!status.ok()) return FromStatus(status);
  return ToString(reply);
}

Result<Json> Cri::Call(const std::string& rpc, const Json& request, milliseconds timeout,
                       std::chrono::nanoseconds* took) {
  const Method* method = Schema::Get().FindMethod(rpc);
  if (method == nullptr) return Error(Code::kUnimplemented, StrCat("CRI has no call ", rpc));
  if (timeout == milliseconds::zero()) timeout = method->image_service ? impl_->image_timeout : impl_->runtime_timeout;
  std::string bytes = TRY(Schema::Get().Encode(method->input, request));
  std::string reply = TRY(CallRaw(method->path, bytes, timeout, took));
  return Schema::Get().Decode(method->output, reply);
}

Result<std::unique_ptr<Cri::Stream>> Cri::OpenRaw(const std::string& path, const std::string& request) {
  const Method* method = Schema::Get().FindMethodByPath(path);
  std::string output = method == nullptr ? "" : method->output;
  return std::unique_ptr<Stream>(std::make_unique<StreamImpl>(impl_->For(path), path, output, request));
}

Result<std::unique_ptr<Cri::Stream>> Cri::Open(const std::string& rpc, const Json& request) {
  const Method* method = Schema::Get().FindMethod(rpc);
  if (method == nullptr) return Error(Code::kUnimplemented, StrCat("CRI has no call ", rpc));
  std::string bytes = TRY(Schema::Get().Encode(method->input, request));
  return OpenRaw(method->path, bytes);
}

}  // namespace crisp::conformance
