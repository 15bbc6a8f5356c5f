// pull: an image from its registry, with a progress bar where the runtime is ours.
#include <sys/ioctl.h>
#include <unistd.h>

#include <optional>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/progress.h"

namespace crisp::ctl {

namespace {

using std::chrono::nanoseconds;

// Redraws a block of lines in place on stderr's terminal.
class ProgressArea {
 public:
  ~ProgressArea() { Clear(); }
  void Draw(const ::crisp::v1::PullUpdate& update) {
    winsize size{};
    size_t width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin_);
    pace_.Add(elapsed, BytesDone(update));
    std::vector<std::string> lines = ProgressLines(update, elapsed, pace_.rate(), width - 1);
    Clear();
    for (const std::string& line : lines) std::fprintf(stderr, "%s\n", line.c_str());
    lines_ = lines.size();
  }

 private:
  void Clear() {
    if (lines_ > 0) std::fprintf(stderr, "\033[%zuA\033[J", lines_);
    lines_ = 0;
  }
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  Pace pace_;
  size_t lines_ = 0;
};

// nullopt: the runtime has no such call.
Result<std::optional<std::string>> PullWithProgress(Session& session, const std::string& image,
                                                    const cri::AuthConfig& auth, nanoseconds timeout) {
  ::crisp::v1::PullRequest request;
  request.set_image(image);
  *request.mutable_auth() = auth;
  grpc::ClientContext context;
  if (timeout != Client::kNoTimeout) {
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::duration_cast<std::chrono::microseconds>(timeout));
  }
  auto reader = session.client->own().Pull(&context, request);
  ::crisp::v1::PullUpdate update;
  std::string id;
  {
    ProgressArea area;
    while (reader->Read(&update)) {
      if (!update.image_id().empty()) id = update.image_id();
      if (update.layers_size() > 0) area.Draw(update);
    }
  }
  grpc::Status status = reader->Finish();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return std::optional<std::string>();
  if (!status.ok()) return FromStatus(status, session.client->image_endpoint());
  return std::optional<std::string>(id);
}

struct PullOptions {
  std::string image, timeout, pod_file;
  std::vector<std::string> annotations;
  AuthOptions auth;
};

Result<int> PullCommand(Session& session, const PullOptions& options) {
  nanoseconds timeout = Client::kNoTimeout;
  if (!options.timeout.empty()) timeout = TRY(ParseDuration(options.timeout));
  cri::PodSandboxConfig pod;
  if (!options.pod_file.empty()) TRY(ReadMessage(options.pod_file, pod));
  cri::AuthConfig auth = TRY(ToAuth(options.auth));
  cri::ImageSpec image;
  image.set_image(options.image);
  TRY(AddPairs(options.annotations, "--annotation", *image.mutable_annotations()));
  std::string ref = TRY(PullImage(session, image, auth, timeout, options.pod_file.empty() ? nullptr : &pod));
  Print(StrCat("Image is up to date for ", ref, "\n"));
  return 0;
}

}  // namespace

Result<std::string> PullImage(Session& session, const cri::ImageSpec& image, const cri::AuthConfig& auth,
                              nanoseconds timeout, const cri::PodSandboxConfig* pod) {
  if (isatty(STDERR_FILENO) == 1 && pod == nullptr && image.annotations().empty()) {
    auto pulled = TRY(PullWithProgress(session, image.image(), auth, timeout), StrCat("pull ", image.image()));
    if (pulled) return *pulled;
  }
  cri::PullImageRequest request;
  *request.mutable_image() = image;
  *request.mutable_auth() = auth;
  if (pod != nullptr) *request.mutable_sandbox_config() = *pod;
  return TRY(session.client->Call(&Client::Images::PullImage, request, timeout), StrCat("pull ", image.image()))
      .image_ref();
}

Result<> EnsureImage(Session& session, const cri::ImageSpec& image, const cri::AuthConfig& auth, nanoseconds timeout,
                     const cri::PodSandboxConfig* pod) {
  cri::ImageStatusRequest request;
  *request.mutable_image() = image;
  auto status = session.client->Call(&Client::Images::ImageStatus, request);
  if (status && status->has_image()) return {};
  TRY(PullImage(session, image, auth, timeout, pod));
  return {};
}

void AddPullCommands(CLI::App& app, Session& session) {
  auto* pull = app.add_subcommand("pull", "pull an image");
  auto options = std::make_shared<PullOptions>();
  pull->add_option("IMAGE", options->image)->required();
  AddAuth(*pull, options->auth);
  pull->add_option("--pull-timeout,--pt", options->timeout, "give up after this long")->envname("CRICTL_PULL_TIMEOUT");
  pull->add_option("-a,--annotation", options->annotations, "key=value for the runtime, repeated")
      ->allow_extra_args(false);
  pull->add_option("--pod-config", options->pod_file, "the pod that the image is for");
  AddSchema(*pull, session, SchemaKind::kPod);
  SetAction(*pull, session, [=, &session] { return PullCommand(session, *options); });
}

}  // namespace crisp::ctl
