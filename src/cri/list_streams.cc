#include "cri/list_streams.h"

namespace crisp::cri {

StreamBound::StreamBound(grpc::CallbackServerContext* context, std::chrono::milliseconds bound)
    : shared_(std::make_shared<Shared>()) {
  shared_->context = context;
  alarm_.Set(std::chrono::system_clock::now() + bound, [shared = shared_](bool went_off) {
    std::unique_lock lock(shared->mutex);
    if (went_off && shared->context != nullptr) shared->context->TryCancel();
  });
}

StreamBound::~StreamBound() {
  std::unique_lock lock(shared_->mutex);
  shared_->context = nullptr;
}

}  // namespace crisp::cri
