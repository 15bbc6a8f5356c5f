#include "shim/prepared_start.h"

#include <utility>

namespace crisp::shim {

Result<std::unique_ptr<PreparedStart>> PreparedStart::Make(Surroundings& around,
                                                           const shimapi::PrepareContainer& request,
                                                           const std::vector<sys::UniqueFd>& fds,
                                                           std::function<void()> ended) {
  if (fds.size() != 1) return Error(Code::kInvalidArgument, "nothing to prepare: the launch is missing");
  Stdio stdio = TRY(MakeStdio(request.stdin_open && !request.terminal));
  auto start = std::make_unique<NativeStart>(around);
  native::LaunchOptions options = TRY(NativeOptions(stdio));
  TRY(start->Prepare(fds[0], options, std::move(ended)));
  stdio.CloseTheirs();
  return std::unique_ptr<PreparedStart>(new PreparedStart(std::move(start), std::move(stdio)));
}

}  // namespace crisp::shim
