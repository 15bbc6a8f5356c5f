// Image references as docker, containerd and the kubelet write them: [host[:port]/]path[:tag][@digest]. The grammar and
// the normalisation are those of the distribution project's reference package:
//
//   busybox                   → docker.io/library/busybox:latest
//   u/app                     → docker.io/u/app:latest
//   localhost/x               → localhost/x:latest
//   index.docker.io/library/a → docker.io/library/a:latest
//   h:5000/a@sha256:…         keeps having no tag
//
// The first component is a host when it holds '.' or ':', is "localhost", or has upper-case letters.
// Threading: values.
#pragma once

#include <string>
#include <string_view>

#include "oci/digest.h"

namespace crisp::oci {

class Reference {
 public:
  Reference() = default;
  // Normalises. kInvalidArgument for anything outside the grammar, a name of more than 255 characters, a bare 64-digit
  // hexadecimal (an image id, not a name), or an upper-case path. The result has a tag, a digest or both.
  static Result<Reference> Parse(std::string_view text);

  const std::string& domain() const { return domain_; }  // "docker.io", "localhost:5000", "[::1]:5000"
  const std::string& path() const { return path_; }      // "library/busybox"
  const std::string& tag() const { return tag_; }        // empty only when there is a digest
  const Digest& digest() const { return digest_; }       // empty when none was written
  bool has_digest() const { return !digest_.empty(); }

  std::string Name() const;      // "docker.io/library/busybox"
  std::string str() const;       // "docker.io/library/busybox:latest", "…@sha256:…", "…:tag@sha256:…"
  std::string Familiar() const;  // the shortest text that parses to the same: "busybox:latest"
  // What to ask the registry for: the digest when there is one, else the tag.
  std::string_view Target() const { return has_digest() ? std::string_view(digest_.str()) : std::string_view(tag_); }

  // What a pull of this reference records. RepoTag is empty when a digest was written: docker and containerd drop the
  // tag of "name:tag@digest", because nobody has checked that the tag names that digest.
  std::string RepoTag() const;                          // "docker.io/library/busybox:latest"
  std::string RepoDigest(const Digest& of_root) const;  // "docker.io/library/busybox@sha256:…"

  Reference WithDigest(Digest digest) const;  // keeps the tag

  friend bool operator==(const Reference&, const Reference&) = default;

 private:
  std::string domain_;
  std::string path_;
  std::string tag_;
  Digest digest_;
};

}  // namespace crisp::oci
