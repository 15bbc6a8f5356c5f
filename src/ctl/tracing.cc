#include "ctl/tracing.h"

#include <limits.h>
#include <unistd.h>

#include <charconv>

#include <grpcpp/grpcpp.h>

#include "base/ids.h"
#include "base/strings.h"
#include "otlp/v1/trace.grpc.pb.h"

namespace crisp::ctl {

namespace otlp = ::opentelemetry::proto::collector::trace::v1;

namespace {

constexpr size_t kTraceIdBytes = 16, kSpanIdBytes = 8;
constexpr uint32_t kFlagSampled = 1;
// As many as OpenTelemetry's own clients keep: `top` and `events` go on for days.
constexpr size_t kCallsMax = 2048;
constexpr size_t kMessageBytesMax = 1024;

uint64_t FromHex(std::string_view digits) {
  uint64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

std::string Bytes(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(FromHex(hex.substr(i, 2)));
  return bytes;
}

// A collector refuses a whole request for one text that is not UTF-8; a runtime's message may be anything.
std::string Text(std::string text) {
  if (text.size() > kMessageBytesMax) {
    text.resize(kMessageBytesMax);
    // The rest of a character that was cut.
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xc0) text.pop_back();
  }
  if (!IsValidUtf8(text)) {
    for (char& c : text) c = static_cast<unsigned char>(c) < 0x80 ? c : '?';
  }
  return text;
}

template <class Message>
otlp::AnyValue& Attribute(Message& message, const char* key) {
  otlp::KeyValue& attribute = *message.add_attributes();
  attribute.set_key(key);
  return *attribute.mutable_value();
}

void DescribeProcess(const std::string& service, otlp::Resource& resource) {
  Attribute(resource, "service.name").set_string_value(service);
  char host[HOST_NAME_MAX + 1] = "";
  if (gethostname(host, sizeof host - 1) == 0) Attribute(resource, "host.name").set_string_value(Text(host));
  Attribute(resource, "process.pid").set_int_value(getpid());
}

void SetError(otlp::Span& span, std::string message) {
  span.mutable_status()->set_code(otlp::Status::ERROR);
  span.mutable_status()->set_message(Text(std::move(message)));
}

// Of gRPC's words about a connection, those that tell why.
std::string Reason(const grpc::Status& status) {
  const std::string& message = status.error_message();
  constexpr std::string_view kLast = "; last error: ";
  size_t at = message.rfind(kLast);
  if (at != std::string::npos) return message.substr(at + kLast.size());
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return StrCat("no answer in ", Tracer::kExportTimeout.count(), " s");
  }
  return message.empty() ? std::string(CodeName(static_cast<Code>(status.error_code()))) : message;
}

}  // namespace

bool IsSampled(std::string_view trace_id, int64_t rate_per_million) {
  constexpr int64_t kMillion = 1000000;
  if (rate_per_million < 0 || rate_per_million >= kMillion) return true;
  // Of the last 8 bytes the upper 63 bits, as in the implementations of OpenTelemetry.
  constexpr double kRange = 9223372036854775808.0;  // 2^63
  auto bound = static_cast<uint64_t>(static_cast<double>(rate_per_million) / kMillion * kRange);
  return FromHex(trace_id.substr(trace_id.size() - 16)) >> 1 < bound;
}

class Tracer::CallInterceptor : public grpc::experimental::Interceptor {
 public:
  CallInterceptor(Tracer& tracer, const char* method) : tracer_(tracer) {
    call_.method = method;
    call_.span_id = RandomHex(kSpanIdBytes);
    call_.start = tracer_.Now();
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Hook = grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(Hook::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace(
          "traceparent", StrCat("00-", tracer_.trace_id_, "-", call_.span_id, tracer_.sampled_ ? "-01" : "-00"));
    }
    if (methods->QueryInterceptionHookPoint(Hook::POST_RECV_STATUS)) {
      const grpc::Status& status = *methods->GetRecvStatus();
      call_.end = tracer_.Now();
      call_.status = status.error_code();
      call_.message = status.error_message();
      tracer_.Add(std::move(call_));
    }
    methods->Proceed();
  }

 private:
  Tracer& tracer_;
  Call call_;
};

class Tracer::CallInterceptorFactory : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit CallInterceptorFactory(Tracer& tracer) : tracer_(tracer) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo* info) override {
    return new CallInterceptor(tracer_, info->method());  // gRPC owns it
  }

 private:
  Tracer& tracer_;
};

Tracer::Tracer(Options options)
    : options_(std::move(options)),
      trace_id_(RandomHex(kTraceIdBytes)),
      root_id_(RandomHex(kSpanIdBytes)),
      sampled_(IsSampled(trace_id_, options_.rate_per_million)),
      began_(std::chrono::system_clock::now()),
      began_steady_(std::chrono::steady_clock::now()) {}

Tracer::Interceptors Tracer::MakeInterceptors() {
  Interceptors made;
  made.push_back(std::make_unique<CallInterceptorFactory>(*this));
  return made;
}

uint64_t Tracer::Now() const {
  auto now = began_.time_since_epoch() + (std::chrono::steady_clock::now() - began_steady_);
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

void Tracer::Add(Call call) {
  if (!sampled_) return;
  auto calls = calls_.Lock();
  if (calls->kept.size() < kCallsMax) {
    calls->kept.push_back(std::move(call));
  } else {
    ++calls->dropped;
  }
}

Result<> Tracer::Export(int exit_code, const std::string& message) {
  if (!sampled_) return {};
  otlp::ExportTraceServiceRequest request;
  otlp::ResourceSpans& spans = *request.add_resource_spans();
  DescribeProcess(options_.service, *spans.mutable_resource());
  otlp::ScopeSpans& scope = *spans.add_scope_spans();
  scope.mutable_scope()->set_name("crispctl");
  scope.mutable_scope()->set_version(CRISP_VERSION);
  auto add = [&](const std::string& id, uint64_t start, uint64_t end) -> otlp::Span& {
    otlp::Span& span = *scope.add_spans();
    span.set_trace_id(Bytes(trace_id_));
    span.set_span_id(Bytes(id));
    span.set_flags(kFlagSampled);
    span.set_start_time_unix_nano(start);
    span.set_end_time_unix_nano(end);
    return span;
  };

  auto start = std::chrono::duration_cast<std::chrono::nanoseconds>(began_.time_since_epoch()).count();
  otlp::Span& root = add(root_id_, static_cast<uint64_t>(start), Now());
  root.set_name(options_.name);
  root.set_kind(otlp::Span::KIND_INTERNAL);
  Attribute(root, "command").set_string_value(options_.command);
  if (exit_code != 0) SetError(root, message.empty() ? StrCat("exit code ", exit_code) : message);

  Calls calls = std::move(*calls_.Lock());
  for (Call& call : calls.kept) {
    std::string_view method = call.method;
    method.remove_prefix(1);
    size_t slash = method.rfind('/');
    otlp::Span& span = add(call.span_id, call.start, call.end);
    span.set_parent_span_id(Bytes(root_id_));
    span.set_name(std::string(method));
    span.set_kind(otlp::Span::KIND_CLIENT);
    Attribute(span, "rpc.system").set_string_value("grpc");
    Attribute(span, "rpc.service").set_string_value(std::string(method.substr(0, slash)));
    Attribute(span, "rpc.method").set_string_value(std::string(method.substr(slash + 1)));
    Attribute(span, "rpc.grpc.status_code").set_int_value(call.status);
    if (call.status != 0) SetError(span, std::move(call.message));
  }

  grpc::ChannelArguments arguments;
  // As for the runtime: a proxy meant for the web is no way to this machine.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto stub = otlp::TraceService::NewStub(
      grpc::CreateCustomChannel(options_.endpoint, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kExportTimeout);
  otlp::ExportTraceServiceResponse response;
  grpc::Status status = stub->Export(&context, request, &response);
  if (!status.ok()) {
    return Error(static_cast<Code>(status.error_code()),
                 StrCat("the trace was not sent to ", options_.endpoint, ": ", Reason(status)));
  }
  const auto& partial = response.partial_success();
  if (partial.rejected_spans() > 0) {
    return Error(Code::kInvalidArgument, StrCat(options_.endpoint, " has refused ", partial.rejected_spans(),
                                                " spans of the trace: ", partial.error_message()));
  }
  if (calls.dropped > 0) {
    return Error(Code::kResourceExhausted,
                 StrCat("the trace has only the first ", kCallsMax, " calls, ", calls.dropped, " more were made"));
  }
  return {};
}

}  // namespace crisp::ctl
