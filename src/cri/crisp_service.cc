#include "cri/crisp_service.h"

#include <optional>

#include "base/strings.h"
#include "cri/from_cri.h"
#include "cri/to_cri.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

constexpr Method kPull{"Images.Pull", Work::kPull, false};
constexpr Method kImport{"Images.Import", Work::kPull, false};
constexpr Method kExport{"Images.Export", Work::kPull, false};
constexpr Method kUntag{"Images.Untag", Work::kVerb, false};

own::PullUpdate UpdateOf(const std::vector<image::PullProgress>& layers) {
  own::PullUpdate update;
  for (const image::PullProgress& layer : layers) {
    own::LayerProgress* out = update.add_layers();
    out->set_digest(layer.layer);
    out->set_bytes_done(layer.bytes_done);
    out->set_bytes_total(layer.bytes_total);
    out->set_phase(static_cast<own::LayerProgress::Phase>(layer.phase));
  }
  return update;
}

// A pull that tells how far it is. Only the newest news waits for the client: a slow one misses steps, and holds up
// nothing and no memory.
class PullCall final : public grpc::ServerWriteReactor<own::PullUpdate>, public Call {
 public:
  PullCall(Front& front, image::Service& images, std::chrono::system_clock::time_point deadline,
           const own::PullRequest& request)
      : Call(front, kPull, LogName(request.image()), deadline), images_(images), request_(request) {}

  void Start() {
    Call::Start([this](const Ctx& ctx) { return Pull(ctx); });
  }

 private:
  Result<> Pull(const Ctx& ctx) {
    TRY(CheckImageName("image", request_.image()));
    image::ImageRef image = TRY(images_.Pull(ctx, request_.image(), ToCredentials(request_.auth()),
                                             [this](const auto& layers) { Tell(UpdateOf(layers)); }));
    auto state = state_.Lock();
    own::PullUpdate last = state->newest.value_or(own::PullUpdate());
    last.set_image_id(image->id);
    Put(*state, std::move(last));
    return {};
  }

  struct State {
    own::PullUpdate writing;
    bool is_writing = false;
    std::optional<own::PullUpdate> newest;  // waits for the write that is under way
    std::optional<grpc::Status> end;        // waits for all writes
  };

  void Tell(own::PullUpdate update) {
    auto state = state_.Lock();
    Put(*state, std::move(update));
  }
  void Put(State& state, own::PullUpdate update) {
    if (state.is_writing) {
      state.newest = std::move(update);
      return;
    }
    state.is_writing = true;
    state.writing = std::move(update);
    StartWrite(&state.writing);
  }

  void OnWriteDone(bool ok) override {
    std::optional<grpc::Status> end;
    {
      auto state = state_.Lock();
      state->is_writing = false;
      if (!ok) state->newest.reset();  // the client is gone; OnCancel tells the pull
      if (state->newest) {
        own::PullUpdate next = *std::exchange(state->newest, std::nullopt);
        Put(*state, std::move(next));
        return;
      }
      end = std::exchange(state->end, std::nullopt);
    }
    if (end) Finish(*end);
  }
  void Send(const grpc::Status& status) override {
    {
      auto state = state_.Lock();
      if (state->is_writing) {
        state->end = status;
        return;
      }
    }
    Finish(status);
  }
  void OnCancel() override { Cancel(); }
  void OnDone() override { delete this; }

  image::Service& images_;
  const own::PullRequest request_;
  Synchronized<State> state_;  // StartWrite is called with it held: gRPC calls back on another thread
};

}  // namespace

grpc::ServerWriteReactor<own::PullUpdate>* CrispImagesService::Pull(grpc::CallbackServerContext* context,
                                                                    const own::PullRequest* request) {
  auto* call = new PullCall(deps_.front, deps_.images, context->deadline(), *request);
  call->Start();
  return call;
}

grpc::ServerUnaryReactor* CrispImagesService::Import(grpc::CallbackServerContext* context,
                                                     const own::ImportRequest* request, own::ImportResponse* response) {
  return Unary(deps_.front, kImport, context, request, response,
               [this](const Ctx& ctx, const own::ImportRequest& req) -> Result<own::ImportResponse> {
                 TRY(CheckAbsolutePath("path", req.path()));
                 if (!req.reference().empty()) TRY(CheckImageName("reference", req.reference()));
                 own::ImportResponse out;
                 for (const image::ImageRef& image : TRY(deps_.images.Import(ctx, req.path(), req.reference()))) {
                   *out.add_images() = ImageToCri(*image);
                 }
                 return out;
               });
}

grpc::ServerUnaryReactor* CrispImagesService::Export(grpc::CallbackServerContext* context,
                                                     const own::ExportRequest* request, own::ExportResponse* response) {
  return Unary(deps_.front, kExport, context, request, response,
               [this](const Ctx& ctx, const own::ExportRequest& req) -> Result<own::ExportResponse> {
                 TRY(CheckImageName("image", req.image()));
                 TRY(CheckAbsolutePath("path", req.path()));
                 TRY(deps_.images.Export(ctx, req.image(), req.path()));
                 return own::ExportResponse();
               });
}

grpc::ServerUnaryReactor* CrispImagesService::Untag(grpc::CallbackServerContext* context,
                                                    const own::UntagRequest* request, own::UntagResponse* response) {
  return Unary(deps_.front, kUntag, context, request, response,
               [this](const Ctx&, const own::UntagRequest& req) -> Result<own::UntagResponse> {
                 TRY(CheckImageName("image", req.image()));
                 TRY(deps_.images.Untag(req.image()));
                 return own::UntagResponse();
               });
}

}  // namespace crisp::cri
