#include "stream/tokens.h"

#include "base/ids.h"

namespace crisp::stream {
namespace {

constexpr size_t kTokenBytes = 20;  // 160 bits of getrandom(2)

}  // namespace

std::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kExec: return "exec";
    case Verb::kAttach: return "attach";
    case Verb::kPortForward: return "portforward";
  }
  return "";
}

Result<std::string> Tokens::Issue(Request request, Clock::time_point now) {
  auto pending = pending_.Lock();
  if (pending->size() >= options_.in_flight_max) DropExpired(*pending, now);
  if (pending->size() >= options_.in_flight_max) {
    return Error(Code::kResourceExhausted, "too many streaming requests wait for their clients");
  }
  std::string token = RandomHex(kTokenBytes);
  pending->emplace(token, Pending{std::move(request), now + options_.lifetime});
  return token;
}

std::optional<Request> Tokens::Redeem(Verb verb, std::string_view token, Clock::time_point now) {
  auto pending = pending_.Lock();
  auto found = pending->find(token);
  if (found == pending->end() || found->second.request.verb != verb) return std::nullopt;
  std::optional<Request> request;
  if (now < found->second.expires) request = std::move(found->second.request);
  pending->erase(found);
  return request;
}

void Tokens::DropExpired(Map& pending, Clock::time_point now) {
  std::erase_if(pending, [&](const auto& entry) { return now >= entry.second.expires; });
}

}  // namespace crisp::stream
