// crisp.v1.Images: what crispctl asks of the image service and CRI has no call for (api/crisp/v1/crisp.proto).
// Threading: any thread (gRPC's). Everything in Deps outlives the service.
#pragma once

#include "crisp/v1/crisp.grpc.pb.h"

#include "cri/call.h"
#include "image/service.h"

namespace crisp::cri {

namespace own = ::crisp::v1;

class CrispImagesService final : public own::Images::CallbackService {
 public:
  struct Deps {
    Front& front;
    image::Service& images;
  };
  explicit CrispImagesService(Deps deps) : deps_(deps) {}

  grpc::ServerWriteReactor<own::PullUpdate>* Pull(grpc::CallbackServerContext* context,
                                                  const own::PullRequest* request) override;
  grpc::ServerUnaryReactor* Import(grpc::CallbackServerContext* context, const own::ImportRequest* request,
                                   own::ImportResponse* response) override;
  grpc::ServerUnaryReactor* Export(grpc::CallbackServerContext* context, const own::ExportRequest* request,
                                   own::ExportResponse* response) override;
  grpc::ServerUnaryReactor* Untag(grpc::CallbackServerContext* context, const own::UntagRequest* request,
                                  own::UntagResponse* response) override;

 private:
  const Deps deps_;
};

}  // namespace crisp::cri
