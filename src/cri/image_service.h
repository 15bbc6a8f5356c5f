// CRI's ImageService over image::Service. Threading: any thread (gRPC's). Everything in Deps outlives the service.
#pragma once

#include "cri/v1/api.grpc.pb.h"

#include "cri/call.h"
#include "cri/disk_usage.h"
#include "image/service.h"
#include "runtime/runtime.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class ImageService final : public v1::ImageService::CallbackService {
 public:
  struct Deps {
    Front& front;
    image::Service& images;
    const runtime::Runtime& runtime;  // knows the runtime handlers
    DiskUsage& layers;  // of the containers' writable layers: ImageFsInfo's container_filesystems
  };
  explicit ImageService(Deps deps) : deps_(deps) {}

  grpc::ServerUnaryReactor* ListImages(grpc::CallbackServerContext* context, const v1::ListImagesRequest* request,
                                       v1::ListImagesResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamImagesResponse>* StreamImages(grpc::CallbackServerContext* context,
                                                                   const v1::StreamImagesRequest* request) override;
  grpc::ServerUnaryReactor* ImageStatus(grpc::CallbackServerContext* context, const v1::ImageStatusRequest* request,
                                        v1::ImageStatusResponse* response) override;
  grpc::ServerUnaryReactor* PullImage(grpc::CallbackServerContext* context, const v1::PullImageRequest* request,
                                      v1::PullImageResponse* response) override;
  grpc::ServerUnaryReactor* RemoveImage(grpc::CallbackServerContext* context, const v1::RemoveImageRequest* request,
                                        v1::RemoveImageResponse* response) override;
  grpc::ServerUnaryReactor* ImageFsInfo(grpc::CallbackServerContext* context, const v1::ImageFsInfoRequest* request,
                                        v1::ImageFsInfoResponse* response) override;

 private:
  // An image and one of the runtime handlers that it was pulled for: to clients that name handlers, these are images of
  // their own (KEP-4216).
  struct Listed {
    image::ImageRef image;
    std::string handler;
  };
  Result<std::vector<Listed>> List(const v1::ImageFilter& filter) const;
  Result<> CheckHandler(const std::string& handler) const;
  Result<v1::ImageStatusResponse> StatusOf(const v1::ImageStatusRequest& request) const;
  Result<v1::ImageFsInfoResponse> FsInfo(const Ctx& ctx) const;

  const Deps deps_;
};

}  // namespace crisp::cri
