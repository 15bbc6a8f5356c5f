#include "stream/tls.h"

#include <sys/stat.h>

#include "base/log.h"

namespace crisp::stream {

namespace ssl = boost::asio::ssl;

std::string TlsFiles::Stamp() const {
  std::string stamp;
  for (const std::string* path : {&cert_, &key_}) {
    struct stat st{};
    if (stat(path->c_str(), &st) == 0) {
      stamp += StrCat(st.st_dev, ":", st.st_ino, ":", st.st_size, ":", st.st_mtim.tv_sec, ".", st.st_mtim.tv_nsec, " ");
    }
  }
  return stamp;
}

Result<> TlsFiles::Load() {
  if (cert_.empty() && key_.empty()) return {};
  if (cert_.empty() || key_.empty()) {
    return Error(Code::kInvalidArgument, "https wants a certificate and its private key, only one of them is given");
  }
  stamp_ = Stamp();
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  boost::system::error_code error;
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  context->use_certificate_chain_file(cert_, error);
  if (error) return Error(Code::kInvalidArgument, StrCat("certificate ", cert_, ": ", error.message()));
  context->use_private_key_file(key_, ssl::context::pem, error);
  if (error) return Error(Code::kInvalidArgument, StrCat("private key ", key_, ": ", error.message()));
  if (SSL_CTX_check_private_key(context->native_handle()) != 1) {
    return Error(Code::kInvalidArgument, StrCat("the private key ", key_, " is not that of ", cert_));
  }
  context_ = std::move(context);
  return {};
}

std::shared_ptr<ssl::context> TlsFiles::Context() {
  if (context_ && Stamp() != stamp_) {
    if (Result<> loaded = Load(); !loaded) {
      LogWarning("the new certificate cannot be used, going on with the old one", {{"error", loaded.error()}});
    }
  }
  return context_;
}

}  // namespace crisp::stream
