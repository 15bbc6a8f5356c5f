#include "conformance/proxy.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "conformance/schema.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr int kMessageBytesMax = 64 << 20;
constexpr auto kStreamPatience = milliseconds(24 * 3600 * 1000);

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

grpc::StatusCode CodeOf(std::string_view name) {
  for (int code = 1; code <= 16; ++code) {
    if (CodeName(static_cast<Code>(code)) == name) return static_cast<grpc::StatusCode>(code);
  }
  return grpc::StatusCode::INTERNAL;
}

}  // namespace

class Proxy::Service : public grpc::CallbackGenericService {
 public:
  Service(Cri& upstream, std::vector<Fault> faults) : upstream_(upstream), faults_(std::move(faults)) {}

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;

  std::vector<const Fault*> FaultsOf(const Method* method) const {
    std::vector<const Fault*> found;
    if (method == nullptr) return found;
    std::string_view name = std::string_view(method->path).substr(method->path.rfind('/') + 1);
    for (const Fault& fault : faults_) {
      if (fault.rpc == name) found.push_back(&fault);
    }
    return found;
  }

  // The bytes with what request or reply faults change.
  std::string Changed(const std::vector<const Fault*>& faults, Fault::Kind kind, const std::string& type,
                      std::string bytes) {
    std::optional<Json> document;
    for (const Fault* fault : faults) {
      if (fault->kind != kind) continue;
      if (!document) {
        auto decoded = Schema::Get().Decode(type, bytes);
        if (!decoded) return bytes;
        document = *std::move(decoded);
      }
      if (Apply(*fault, *document)) struck = true;
    }
    if (!document) return bytes;
    auto encoded = Schema::Get().Encode(type, *document);
    return encoded ? *std::move(encoded) : bytes;
  }

  Cri& upstream_;
  const std::vector<Fault> faults_;
  std::atomic<bool> struck = false;
  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  int calls_ = 0;
  std::map<std::string, std::string> first_;  // replies of stale calls
  std::unique_ptr<grpc::Server> server_;
};

// One call's way. The thread does the work; gRPC's callbacks only tell it what is done.
struct Proxy::Call : grpc::ServerGenericBidiReactor {
  Call(Service& service, std::string path) : service_(service), path_(std::move(path)) {
    method_ = Schema::Get().FindMethodByPath(path_);
    faults_ = service.FaultsOf(method_);
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::INTERNAL, "no request"));
    std::thread([this] { Finish(Work()); }).detach();
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    write_ok_ = ok;
    writing_ = false;
    written_.notify_all();
  }
  void OnCancel() override {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (stream_) stream_->Cancel();
  }
  void OnDone() override {
    Service& service = service_;
    delete this;
    std::lock_guard lock(service.mutex_);
    --service.calls_;
    service.changed_.notify_all();
  }

 private:
  const Fault* Find(Fault::Kind kind) const {
    for (const Fault* fault : faults_) {
      if (fault->kind == kind) return fault;
    }
    return nullptr;
  }
  bool Write(const std::string& bytes) {
    std::unique_lock lock(mutex_);
    writing_ = true;
    reply_ = ToBuffer(bytes);
    StartWrite(&reply_);
    written_.wait(lock, [this] { return !writing_; });
    return write_ok_;
  }
  grpc::Status Work() {
    std::string request = ToString(request_);
    if (const Fault* fail = Find(Fault::Kind::kFail)) {
      service_.struck = true;
      return {CodeOf(fail->text), "a fault was injected"};
    }
    if (Find(Fault::Kind::kNoop) != nullptr) {
      service_.struck = true;
      if (method_->streaming) return grpc::Status::OK;
      Write(service_.Changed(faults_, Fault::Kind::kReply, method_->output, ""));
      return grpc::Status::OK;
    }
    if (method_ != nullptr) request = service_.Changed(faults_, Fault::Kind::kRequest, method_->input, request);
    return method_ != nullptr && method_->streaming ? PassStream(request) : PassUnary(request);
  }
  void WaitLate() {
    const Fault* late = Find(Fault::Kind::kLate);
    if (late == nullptr) return;
    service_.struck = true;
    std::this_thread::sleep_for(milliseconds(ParseInt<int64_t>(late->text).value_or(1000)));
  }
  grpc::Status PassUnary(const std::string& request) {
    auto reply = service_.upstream_.CallRaw(path_, request, milliseconds(600'000));
    WaitLate();
    if (!reply && Find(Fault::Kind::kSwallow) != nullptr) {
      service_.struck = true;
      reply = std::string();
    }
    if (!reply) return {static_cast<grpc::StatusCode>(reply.error().code()), reply.error().message()};
    std::string bytes =
        method_ == nullptr ? *reply : service_.Changed(faults_, Fault::Kind::kReply, method_->output, *reply);
    if (Find(Fault::Kind::kStale) != nullptr) {
      std::lock_guard lock(service_.mutex_);
      auto [first, is_first] = service_.first_.emplace(path_, bytes);
      if (!is_first) service_.struck = true;
      bytes = first->second;
    }
    Write(bytes);
    return grpc::Status::OK;
  }
  grpc::Status PassStream(const std::string& request) {
    auto opened = service_.upstream_.OpenRaw(path_, request);
    {
      std::lock_guard lock(mutex_);
      stream_ = std::move(*opened);
      if (cancelled_) stream_->Cancel();
    }
    while (true) {
      auto bytes = stream_->NextRaw(kStreamPatience);
      if (!bytes && bytes.error().code() == Code::kOutOfRange) return grpc::Status::OK;
      if (!bytes) return {static_cast<grpc::StatusCode>(bytes.error().code()), bytes.error().message()};
      WaitLate();
      if (Lost(*bytes)) continue;
      if (!Write(service_.Changed(faults_, Fault::Kind::kReply, method_->output, *bytes)))
        return grpc::Status::CANCELLED;
    }
  }
  bool Lost(const std::string& bytes) {
    const Fault* lose = Find(Fault::Kind::kLose);
    if (lose == nullptr) return false;
    auto document = Schema::Get().Decode(method_->output, bytes);
    if (!lose->text.empty() && document && DumpJson(*document).find(lose->text) == std::string::npos) return false;
    service_.struck = true;
    return true;
  }

  Service& service_;
  const std::string path_;
  const Method* method_ = nullptr;
  std::vector<const Fault*> faults_;
  grpc::ByteBuffer request_, reply_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable written_;
  std::unique_ptr<Cri::Stream> stream_;
  bool writing_ = false, write_ok_ = false, cancelled_ = false;
};

grpc::ServerGenericBidiReactor* Proxy::Service::CreateReactor(grpc::GenericCallbackServerContext* context) {
  {
    std::lock_guard lock(mutex_);
    ++calls_;
  }
  return new Call(*this, context->method());
}

Proxy::Proxy(Cri& upstream, std::vector<Fault> faults, const std::string& socket_path)
    : service_(std::make_unique<Service>(upstream, std::move(faults))) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(StrCat("unix://", socket_path), grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.RegisterCallbackGenericService(service_.get());
  service_->server_ = builder.BuildAndStart();
}

Proxy::~Proxy() {
  if (service_->server_) service_->server_->Shutdown(std::chrono::system_clock::now());
  std::unique_lock lock(service_->mutex_);
  service_->changed_.wait(lock, [this] { return service_->calls_ == 0; });
}

bool Proxy::ok() const { return service_->server_ != nullptr; }
bool Proxy::struck() const { return service_->struck; }

}  // namespace crisp::conformance
