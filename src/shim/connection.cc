#include "shim/connection.h"

namespace crisp::shim {

void Connection::Send(std::string bytes) {
  if (broken_) return;
  queue_.push_back(std::move(bytes));
  if (queue_.size() > kQueueMax) broken_ = true;
  FlushQueue();
}

void Connection::FlushQueue() {
  while (!broken_ && !queue_.empty()) {
    Result<> sent = shimapi::SendMessage(fd_, queue_.front());
    if (!sent && sent.error().code() == Code::kUnavailable) return;
    if (!sent) broken_ = true;
    queue_.pop_front();
  }
  if (queue_.empty()) queue_ = {};
}

void Asker::Fail(const Error& error, std::string output, bool from_runtime) const {
  shimapi::ErrorReply reply;
  reply.code = static_cast<int32_t>(error.code());
  reply.os_errno = error.os_errno();
  reply.message = error.message().substr(0, 8192);
  reply.output = std::move(output);
  reply.from_runtime = from_runtime;
  Answer(reply);
}

}  // namespace crisp::shim
