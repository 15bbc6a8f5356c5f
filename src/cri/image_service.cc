#include "cri/image_service.h"

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

Result<std::vector<image::ImageRef>> ImageService::List(const v1::ImageFilter& filter) const {
  const std::string& wanted = filter.image().image();
  if (wanted.empty()) return deps_.images.List();
  TRY(CheckImageName("filter.image.image", wanted));
  image::ImageRef image = TRY(deps_.images.Find(wanted));
  return image ? std::vector{image} : std::vector<image::ImageRef>();
}

Result<v1::ImageStatusResponse> ImageService::StatusOf(const v1::ImageStatusRequest& request) const {
  TRY(CheckImageName("image.image", request.image().image()));
  image::ImageRef image = TRY(deps_.images.Find(request.image().image()));
  v1::ImageStatusResponse out;
  if (!image) return out;  // not an error: api.proto wants the image unset
  *out.mutable_image() = ImageToCri(*image);
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
                 for (const image::ImageRef& image : TRY(List(req.filter()))) *out.add_images() = ImageToCri(*image);
                 return out;
               });
}

grpc::ServerWriteReactor<v1::StreamImagesResponse>* ImageService::StreamImages(grpc::CallbackServerContext* context,
                                                                               const v1::StreamImagesRequest* request) {
  using Stream = ListStream<image::ImageRef, v1::StreamImagesResponse>;
  return new Stream(deps_.front, kStreamImages, context,
                    {.list = [this, filter = request->filter()](const Ctx&) { return List(filter); },
                     .add =
                         [](const Ctx&, const image::ImageRef& image, v1::StreamImagesResponse& out) {
                           v1::Image& added = *out.add_images();
                           added = ImageToCri(*image);
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
                 Result<image::ImageRef> image = deps_.images.Pull(ctx, req.image().image(), ToCredentials(req.auth()),
                                                                   {}, req.sandbox_config().metadata().namespace_());
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
                 TRY(deps_.images.Remove(req.image().image()));
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
