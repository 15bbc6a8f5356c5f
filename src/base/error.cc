#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace crisp {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kCancelled: return "CANCELLED";
    case Code::kUnknown: return "UNKNOWN";
    case Code::kInvalidArgument: return "INVALID_ARGUMENT";
    case Code::kDeadlineExceeded: return "DEADLINE_EXCEEDED";
    case Code::kNotFound: return "NOT_FOUND";
    case Code::kAlreadyExists: return "ALREADY_EXISTS";
    case Code::kPermissionDenied: return "PERMISSION_DENIED";
    case Code::kResourceExhausted: return "RESOURCE_EXHAUSTED";
    case Code::kFailedPrecondition: return "FAILED_PRECONDITION";
    case Code::kAborted: return "ABORTED";
    case Code::kOutOfRange: return "OUT_OF_RANGE";
    case Code::kUnimplemented: return "UNIMPLEMENTED";
    case Code::kInternal: return "INTERNAL";
    case Code::kUnavailable: return "UNAVAILABLE";
    case Code::kDataLoss: return "DATA_LOSS";
    case Code::kUnauthenticated: return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

Error::Error(Code code, std::string message) : payload_(new Payload{code, 0, std::move(message)}) {}
Error::Error(const Error& other) : payload_(new Payload(*other.payload_)) {}

Error& Error::operator=(const Error& other) {
  if (this != &other) payload_ = std::make_unique<Payload>(*other.payload_);
  return *this;
}

Error&& Error::Context(std::string_view context) && {
  std::string text(context);
  text += ": ";
  payload_->message.insert(0, text);
  return std::move(*this);
}

Error&& Error::As(Code code) && {
  payload_->code = code;
  return std::move(*this);
}

static Code CodeOfErrno(int err) {
  switch (err) {
    case ENOENT: return Code::kNotFound;
    case EEXIST: return Code::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return Code::kResourceExhausted;
    case EACCES:
    case EPERM: return Code::kPermissionDenied;
    case ETIMEDOUT: return Code::kDeadlineExceeded;
    default: return Code::kInternal;
  }
}

Error Errno(int err, std::string_view what) {
  char buffer[128];
  std::string message(what);
  message += ": ";
  message += strerror_r(err, buffer, sizeof buffer);
  Error error(CodeOfErrno(err), std::move(message));
  error.payload_->os_errno = err;
  return error;
}

}  // namespace crisp
