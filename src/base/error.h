// The one error type of crisp. An Error is what a Result<T> carries when it carries no value.
//
// Codes are the 16 gRPC status codes (https://grpc.io/docs/guides/status-codes), so that the border to CRI is a plain
// conversion. The message is lower case, has no full stop, and names the object and what was tried:
//   `write "max" to /sys/fs/cgroup/x/pids.max: permission denied`
// Ownership: an Error owns its texts. Threading: a value, no sharing. It is one pointer wide, so Result stays cheap.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace crisp {

enum class Code {
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// The code's name as gRPC writes it: "NOT_FOUND".
std::string_view CodeName(Code code);

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string message);
  Error(Error&&) noexcept = default;
  Error& operator=(Error&&) noexcept = default;
  Error(const Error& other);
  Error& operator=(const Error& other);
  ~Error() = default;

  Code code() const { return payload_->code; }
  // The errno that caused it, or 0.
  int os_errno() const { return payload_->os_errno; }
  const std::string& message() const { return payload_->message; }

  // Puts "context: " before the message. Context says what the caller knew and the callee did not.
  Error&& Context(std::string_view context) &&;
  // The same error under another code.
  Error&& As(Code code) &&;

 private:
  friend Error Errno(int, std::string_view);
  struct Payload {
    Code code;
    int os_errno = 0;
    std::string message;
  };
  std::unique_ptr<Payload> payload_;
};

// An error from errno `err` met while doing `what` ("open /etc/passwd"). ENOENT becomes kNotFound, EEXIST
// kAlreadyExists, ENOSPC/EDQUOT/EMFILE/ENFILE/ENOMEM kResourceExhausted, EACCES/EPERM kPermissionDenied,
// ETIMEDOUT kDeadlineExceeded, everything else kInternal.
Error Errno(int err, std::string_view what);

}  // namespace crisp
