#include "oci/reference.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace crisp::oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'b');

TEST(Reference, Normalises) {
  struct Case {
    std::string text, full, domain, path, tag, familiar;
  };
  const Case cases[] = {
      {"busybox", "docker.io/library/busybox:latest", "docker.io", "library/busybox", "latest", "busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36", "docker.io", "library/busybox", "1.36", "busybox:1.36"},
      {"u/app", "docker.io/u/app:latest", "docker.io", "u/app", "latest", "u/app:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest", "docker.io", "library/busybox", "latest",
       "busybox:latest"},
      {"index.docker.io/library/a", "docker.io/library/a:latest", "docker.io", "library/a", "latest", "a:latest"},
      {"docker.io/library/a/b", "docker.io/library/a/b:latest", "docker.io", "library/a/b", "latest",
       "library/a/b:latest"},
      {"localhost/x", "localhost/x:latest", "localhost", "x", "latest", "localhost/x:latest"},
      {"localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000", "x", "1", "localhost:5000/x:1"},
      {"127.0.0.1:5077/a/b/c:v1", "127.0.0.1:5077/a/b/c:v1", "127.0.0.1:5077", "a/b/c", "v1",
       "127.0.0.1:5077/a/b/c:v1"},
      {"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000", "x", "latest", "[::1]:5000/x:latest"},
      {"[fe80::1]/x", "[fe80::1]/x:latest", "[fe80::1]", "x", "latest", "[fe80::1]/x:latest"},
      {"Host/x", "Host/x:latest", "Host", "x", "latest", "Host/x:latest"},
      {"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io", "pause", "3.10",
       "registry.k8s.io/pause:3.10"},
      {"host:5000", "docker.io/library/host:5000", "docker.io", "library/host", "5000", "host:5000"},
      {"a-b__c.d_e---f", "docker.io/library/a-b__c.d_e---f:latest", "docker.io", "library/a-b__c.d_e---f", "latest",
       "a-b__c.d_e---f:latest"},
      {"docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io", "localhost/x", "latest",
       "docker.io/localhost/x:latest"},
      {"x:_Tag.A-b", "docker.io/library/x:_Tag.A-b", "docker.io", "library/x", "_Tag.A-b", "x:_Tag.A-b"},
      {"foo_bar.com/x", "foo_bar.com/x", "", "", "", ""},  // '_' is no host: refused below
  };
  for (const Case& c : cases) {
    Result<Reference> r = Reference::Parse(c.text);
    if (c.domain.empty()) {
      EXPECT_FALSE(r) << c.text;
      continue;
    }
    ASSERT_TRUE(r) << c.text;
    EXPECT_EQ(r->str(), c.full);
    EXPECT_EQ(r->domain(), c.domain);
    EXPECT_EQ(r->path(), c.path);
    EXPECT_EQ(r->tag(), c.tag);
    EXPECT_EQ(r->Familiar(), c.familiar);
    EXPECT_EQ(r->RepoTag(), c.full);
    EXPECT_EQ(r->Target(), c.tag);
    // Canonical and familiar text mean the same image.
    EXPECT_EQ(*Reference::Parse(r->str()), *r);
    EXPECT_EQ(*Reference::Parse(r->Familiar()), *r);
  }
}

TEST(Reference, DigestWinsOverTag) {
  Result<Reference> r = Reference::Parse("busybox:1.36@" + kDigest);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->Target(), kDigest);
  EXPECT_EQ(r->RepoTag(), "");
  EXPECT_EQ(r->str(), "docker.io/library/busybox:1.36@" + kDigest);
  EXPECT_EQ(r->RepoDigest(Digest::Of("abc")), "docker.io/library/busybox@" + Digest::Of("abc").str());
}

TEST(Reference, DigestAloneLeavesTheTagEmpty) {
  Result<Reference> r = Reference::Parse("quay.io/a/b@" + kDigest);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->tag(), "");
  EXPECT_EQ(r->Name(), "quay.io/a/b");
}

TEST(Reference, RefusesWhatIsNoReference) {
  const std::string bad[] = {
      "",
      " ",
      "busybox ",
      " busybox",
      "busy box",
      "Busybox",
      "docker.io/Busybox",
      "docker.io/",
      "docker.io//x",
      "/x",
      "x/",
      "x//y",
      "x:",
      "x:-tag",
      "x:.tag",
      "x:" + std::string(129, 't'),
      "x:a:b",
      "x@",
      "x@sha256:abc",
      "x@" + kDigest + "@" + kDigest,
      "x@sha256:" + std::string(64, 'B'),
      "x@md5:" + std::string(32, 'a'),
      "x@sha256:../../x",
      "../x",
      "a/../b",
      "a/./b",
      "-a",
      "a-",
      "a..b",
      "a___b",
      "a._b",
      "a%2fb",
      "a?b",
      "a#b",
      "user@host/x",
      "https://docker.io/x",
      "host:port/x",
      "host:0/x",
      "host:65536/x",
      "host:123456/x",
      "host:/x",
      "-host.io/x",
      "host-.io/x",
      "host..io/x",
      ".io/x",
      "[::1/x",
      "[]/x",
      "[::1]5000/x",
      "[::g]/x",
      "x\n",
      std::string("x\0y", 3),
      "grün",
      std::string(64, 'a'),
      "a/" + std::string(260, 'b'),
      std::string(10'000, 'a'),
  };
  for (const std::string& text : bad) {
    Result<Reference> r = Reference::Parse(text);
    ASSERT_FALSE(r) << Quote(text) << " → " << r->str();
    EXPECT_EQ(r.error().code(), Code::kInvalidArgument) << text;
  }
}

TEST(Reference, NameOf255CharactersIsTheLongest) {
  std::string path(255 - std::string("h.io/").size(), 'a');
  EXPECT_TRUE(Reference::Parse("h.io/" + path));
  EXPECT_FALSE(Reference::Parse("h.io/" + path + "a"));
  EXPECT_TRUE(Reference::Parse("h.io/" + path + ":" + std::string(128, 't') + "@sha512:" + std::string(128, '0')));
}

}  // namespace
}  // namespace crisp::oci
