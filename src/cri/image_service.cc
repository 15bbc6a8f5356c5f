#include "cri/image_service.h"

#include <algorithm>

#include "base/strings.h"
#include "base/time.h"
#include "cri/from_cri.h"
#include "cri/info.h"
#include "cri/list_streams.h"
#include "cri/to_cri.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

constexpr Method kListImages{"ListImages", Work::kMemory, true};
constexpr Method kStreamImages{"StreamImages", Work::kMemory, true};
constexpr Method kImageStatus{"ImageStatus", Work::kMemory, true};
constexpr Method kPullImage{"PullImage", Work::kPull, false};
constexpr Method kRemoveImage{"RemoveImage", Work::kVerb, false};
constexpr Method kImageFsInfo{"ImageFsInfo", Work::kQuick, true};

// Failures that the kubelet tells its users by name (cri-api pkg/errors). It looks for these words at the very
// beginning of the text, and only behind the code UNKNOWN does its client hand on the text alone (cri-client,
// pullImageV1: any other code puts "rpc error: code = …" before it).
Error ForKubelet(Error error) {
  for (std::string_view sentinel : {"RegistryUnavailable", "SignatureValidationFailed"}) {
    if (error.message().starts_with(sentinel)) return std::move(error).As(Code::kUnknown);
  }
  return error;
}

}  // namespace

Result<std::vector<ImageService::Listed>> ImageService::List(const v1::ImageFilter& filter) const {
  const std::string& wanted = filter.image().image();
  const std::string& handler = filter.image().runtime_handler();
  std::vector<image::ImageRef> images;
  if (wanted.empty()) {
    images = deps_.images.List();
  } else {
    TRY(CheckImageName("filter.image.image", wanted));
    if (image::ImageRef image = TRY(deps_.images.Find(wanted))) images.push_back(std::move(image));
  }
  std::vector<Listed> out;
  for (const image::ImageRef& image : images) {
    for (const std::string& each : image->runtime_handlers) {
      if (handler.empty() || handler == each) out.push_back({image, each});
    }
  }
  return out;
}

Result<> ImageService::CheckHandler(const std::string& handler) const {
  if (handler.empty() || deps_.runtime.HasHandler(handler)) return {};
  return Error(Code::kInvalidArgument,
               StrCat("image.runtime_handler: no runtime handler ", Quote(handler), " is configured"));
}

Result<v1::ImageStatusResponse> ImageService::StatusOf(const v1::ImageStatusRequest& request) const {
  TRY(CheckImageName("image.image", request.image().image()));
  const std::string& handler = request.image().runtime_handler();
  TRY(CheckHandler(handler));
  image::ImageRef image = TRY(deps_.images.Find(request.image().image()));
  v1::ImageStatusResponse out;
  if (!image) return out;  // not an error: api.proto wants the image unset
  // The content is the same for all handlers: an image that came for another one need not be pulled for this one.
  bool is_for_it = std::ranges::find(image->runtime_handlers, handler) != image->runtime_handlers.end();
  *out.mutable_image() = ImageToCri(*image, is_for_it ? handler : std::string());
  if (request.verbose()) {
    Info info = ImageInfo(*image);
    out.mutable_info()->insert(info.begin(), info.end());
  }
  return out;
}

Result<v1::ImageFsInfoResponse> ImageService::FsInfo(const Ctx& ctx) const {
  v1::ImageFsInfoResponse out;
  *out.add_image_filesystems() = UsageToCri(TRY(deps_.images.Usage()), UnixNanosNow());
  DiskUsage::Measured containers = TRY(deps_.layers.Total(ctx));
  *out.add_container_filesystems() = UsageToCri(containers.usage, containers.at_unix_nanos);
  return out;
}

grpc::ServerUnaryReactor* ImageService::ListImages(grpc::CallbackServerContext* context,
                                                   const v1::ListImagesRequest* request,
                                                   v1::ListImagesResponse* response) {
  return Unary(deps_.front, kListImages, context, request, response,
               [this](const Ctx&, const v1::ListImagesRequest& req) -> Result<v1::ListImagesResponse> {
                 v1::ListImagesResponse out;
                 const std::vector<Listed> images = TRY(List(req.filter()));
                 for (const Listed& each : images) *out.add_images() = ImageToCri(*each.image, each.handler);
                 return out;
               });
}

grpc::ServerWriteReactor<v1::StreamImagesResponse>* ImageService::StreamImages(grpc::CallbackServerContext* context,
                                                                               const v1::StreamImagesRequest* request) {
  using Stream = ListStream<Listed, v1::StreamImagesResponse>;
  return new Stream(deps_.front, kStreamImages, context,
                    {.list = [this, filter = request->filter()](const Ctx&) { return List(filter); },
                     .add =
                         [](const Ctx&, const Listed& each, v1::StreamImagesResponse& out) {
                           v1::Image& added = *out.add_images();
                           added = ImageToCri(*each.image, each.handler);
                           return added.ByteSizeLong();
                         },
                     .prepare = {}});
}

grpc::ServerUnaryReactor* ImageService::ImageStatus(grpc::CallbackServerContext* context,
                                                    const v1::ImageStatusRequest* request,
                                                    v1::ImageStatusResponse* response) {
  return Unary(deps_.front, kImageStatus, context, request, response,
               [this](const Ctx&, const v1::ImageStatusRequest& req) { return StatusOf(req); });
}

grpc::ServerUnaryReactor* ImageService::PullImage(grpc::CallbackServerContext* context,
                                                  const v1::PullImageRequest* request,
                                                  v1::PullImageResponse* response) {
  return Unary(deps_.front, kPullImage, context, request, response,
               [this](const Ctx& ctx, const v1::PullImageRequest& req) -> Result<v1::PullImageResponse> {
                 TRY(CheckImageName("image.image", req.image().image()));
                 const std::string& handler = req.image().runtime_handler();
                 TRY(CheckHandler(handler));
                 Result<image::ImageRef> image =
                     deps_.images.Pull(ctx, req.image().image(), ToCredentials(req.auth()), {},
                                       req.sandbox_config().metadata().namespace_(), handler);
                 if (!image) return ForKubelet(std::move(image).error());
                 v1::PullImageResponse out;
                 out.set_image_ref((*image)->id);
                 return out;
               });
}

grpc::ServerUnaryReactor* ImageService::RemoveImage(grpc::CallbackServerContext* context,
                                                    const v1::RemoveImageRequest* request,
                                                    v1::RemoveImageResponse* response) {
  return Unary(deps_.front, kRemoveImage, context, request, response,
               [this](const Ctx&, const v1::RemoveImageRequest& req) -> Result<v1::RemoveImageResponse> {
                 TRY(CheckImageName("image.image", req.image().image()));
                 TRY(deps_.images.Remove(req.image().image(), req.image().runtime_handler()));
                 return v1::RemoveImageResponse();
               });
}

grpc::ServerUnaryReactor* ImageService::ImageFsInfo(grpc::CallbackServerContext* context,
                                                    const v1::ImageFsInfoRequest* request,
                                                    v1::ImageFsInfoResponse* response) {
  return Unary(deps_.front, kImageFsInfo, context, request, response,
               [this](const Ctx& ctx, const v1::ImageFsInfoRequest&) { return FsInfo(ctx); });
}

}  // namespace crisp::cri
