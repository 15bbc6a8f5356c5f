// PageServer: one text page over HTTP/1.1, for a scraper that comes every few seconds. One connection at a time, each
// with a time and a size limit, closed after its answer: more than that would be a web server.
// Threading: serves on one thread of its own, on which `page` is called; the destructor ends it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "sys/fd.h"

namespace crisp::metrics {

class PageServer {
 public:
  // `address` is IP:PORT, IPv6 in brackets; port 0: any free one. GET `path` answers `page()`, all else 404.
  static Result<std::unique_ptr<PageServer>> Listen(const std::string& address, std::string path,
                                                    std::function<std::string()> page);
  ~PageServer();
  int port() const { return port_; }

 private:
  PageServer() = default;
  void Serve();
  void Answer(sys::UniqueFd client);

  std::string path_;
  std::function<std::string()> page_;
  int port_ = 0;
  sys::UniqueFd listener_, stop_;  // stop_: an eventfd that ends the thread
  std::thread thread_;
};

}  // namespace crisp::metrics
