// Debian's docker-registry (the distribution project's registry 2.8) on a free loopback port, storage in a directory
// that goes away with it. Content is pushed by plain HTTP. Threading: one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "image/testing/temp_dir.h"
#include "sys/spawn.h"

namespace crisp::image::testing {

class RealRegistry {
 public:
  enum class Access { kEverybody, kPassword };  // kPassword: user "user", password "p4ssword"
  // Nothing when docker-registry is not installed: the test is skipped then.
  static std::unique_ptr<RealRegistry> Start(Access access);
  ~RealRegistry();

  std::string Host() const;  // "127.0.0.1:PORT"
  // Returns the digest. Failures are test failures.
  std::string PushBlob(const std::string& repository, std::string_view bytes);
  std::string PushManifest(const std::string& repository, const std::string& tag, std::string_view bytes,
                           std::string_view type);

 private:
  struct Answer {
    int status = 0;
    std::string location;
    std::string body;
  };
  RealRegistry() = default;
  Answer Send(const std::string& method, const std::string& target, std::string_view type, std::string_view body);

  TempDir dir_;
  int port_ = 0;
  bool password_ = false;
  std::optional<sys::Process> process_;
  sys::UniqueFd log_;
};

}  // namespace crisp::image::testing
