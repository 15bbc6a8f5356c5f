// The server's certificate, read again when its files change: certificates are renewed while crispd runs.
// Threading: one thread.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

#include "base/result.h"

namespace crisp::stream {

class TlsFiles {
 public:
  // Both empty: no TLS, Context() is null.
  TlsFiles(std::string cert, std::string key) : cert_(std::move(cert)), key_(std::move(key)) {}

  // Reads the files now.
  Result<> Load();
  // The newest pair that could be used. A pair that cannot is logged once, and the old one goes on.
  std::shared_ptr<boost::asio::ssl::context> Context();

 private:
  std::string Stamp() const;  // changes whenever one of the files does
  const std::string cert_, key_;
  std::string stamp_;
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace crisp::stream
