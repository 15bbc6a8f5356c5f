// A registry on loopback that serves the suite's images, well or badly. Repositories begin with "crisptest/":
//   crisptest/NAME[/ANYTHING]:ANY_TAG    the image NAME of the set
//   crisptest/small/ANYTHING:ANY_TAG     an image of its own for each ANYTHING:TAG
//   crisptest/tags/ANYTHING:ANY_TAG      the same for each ANYTHING: all tags are one image's
//   crisptest/private/…                  the same as "private", for kUser and kPassword only (Basic)
//   crisptest/broken/…                   a manifest whose layer has other bytes than its digest says
//   crisptest/hang/…                     no answer at all;  crisptest/unavailable/…: 503;  anything else: 404
// Threading: serves on threads of its own until destroyed.
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "conformance/images.h"
#include "sys/fd.h"

namespace crisp::conformance {

class Registry {
 public:
  static constexpr const char* kUser = "crisp";
  static constexpr const char* kPassword = "open sesame";

  explicit Registry(ImageSet images) : images_(std::move(images)) {}
  ~Registry();
  // Listens on `address`: 127.0.0.1:PORT, port 0 is any free one.
  Result<> Start(const std::string& address = "127.0.0.1:0");
  int port() const { return port_; }
  std::string host() const;  // "127.0.0.1:PORT"
  const ImageSet& images() const { return images_; }

 private:
  struct Request {
    std::string method, path, authorization;
  };
  struct Response {
    int status = 200;
    std::string type = "text/plain", body, extra;
    std::string digest;
    bool hang = false;
  };
  void Accept();
  void Serve(int fd);
  Response Answer(const Request& request);
  Response Manifest(const std::string& repository, const std::string& reference);
  Response Blob(const std::string& repository, const std::string& digest);

  const ImageSet images_;
  sys::UniqueFd listener_;
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;                        // guards the rest
  std::map<std::string, BuiltImage> made_;  // small images by repository:tag
  std::map<std::string, std::string> made_blobs_;
  std::map<std::string, std::string> made_manifests_;
  std::set<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace crisp::conformance
