#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/strings.h"
#include "checkpoint/files.h"
#include "checkpoint/format.h"
#include "checkpoint/processes.h"
#include "checkpoint/writer.h"
#include "codec/tar.h"
#include "sys/file.h"

namespace crisp::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A message of protobuf, by hand: {field, number or bytes}.
std::string Number(int field, uint64_t value) {
  std::string out(1, static_cast<char>(field << 3));
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string Bytes(int field, const std::string& bytes) {
  std::string length = Number(0, bytes.size());
  return std::string(1, static_cast<char>(field << 3 | 2)) + length.substr(1) + bytes;
}
std::string Core(const std::string& creds, const std::string& thread) {
  const std::string entry = Number(1, 1) + Bytes(3, Number(1, 1)) + Bytes(5, Bytes(10, creds) + thread);
  std::string image("\x19\x43\x56\x54\x47\x38\x05\x55", 8);
  for (int shift = 0; shift < 32; shift += 8) image += static_cast<char>(entry.size() >> shift & 0xff);
  return image + entry;
}
constexpr char kConfig[] = R"({"process": {"user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": true,
  "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NET_RAW"]}}, "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}})";

// S55: what a process is allowed comes from the request; CRIU would restore whatever its images say.
TEST(Processes, S55_NoneHasMoreThanTheRequestGives) {
  const ProcessRules rules = *RulesOf(kConfig);
  auto uids = [](uint64_t id) {
    std::string out;
    for (int field = 1; field <= 8; ++field) out += Number(field, id);
    return out;
  };
  const std::string filter = Number(11, 2);
  const std::string fine = uids(1000) + Number(12, 1 << 13 | 1) + Number(12, 0);
  EXPECT_TRUE(CheckProcess(Core(fine, filter), rules));
  EXPECT_TRUE(CheckProcess(Core(uids(1000) + Bytes(12, Number(0, 1).substr(1) + std::string(1, '\0')), filter), rules)) << "packed";
  auto why = [&](const std::string& image) {
    Result<> done = CheckProcess(image, rules);
    return done ? std::string("accepted") : done.error().message();
  };
  for (int set = 9; set <= 12; ++set) {
    EXPECT_THAT(why(Core(uids(1000) + Number(set, 1 << 21), filter)), HasSubstr("capabilities")) << set;
    EXPECT_THAT(why(Core(uids(1000) + Number(set, 0) + Number(set, 1 << 7), filter)), HasSubstr("capabilities")) << "high word";
    EXPECT_THAT(why(Core(uids(1000) + Bytes(set, Number(0, 1 << 21).substr(1)), filter)), HasSubstr("capabilities"));
  }
  EXPECT_THAT(why(Core(fine, "")), HasSubstr("seccomp"));
  EXPECT_THAT(why(Core(fine, Number(11, 0))), HasSubstr("seccomp"));
  EXPECT_THAT(why(Core(uids(0), filter)), HasSubstr("user 0"));
  EXPECT_THAT(why(Core(uids(1000) + Number(3, 0), filter)), HasSubstr("user 0")) << "the last one counts";
  EXPECT_THAT(why(Core(fine + Bytes(15, "unconfined"), filter)), HasSubstr("profile"));
  EXPECT_THAT(why(Core(uids(1000) + Number(4, 0), filter)), HasSubstr("group 0"));
  EXPECT_THAT(why(Core(fine + Number(14, 999), filter)), HasSubstr("group 999"));
  EXPECT_THAT(why(Core(fine + Bytes(14, Number(0, 999).substr(1)), filter)), HasSubstr("group 999")) << "packed";
  EXPECT_THAT(why(Core(fine, filter + Bytes(10, fine))), HasSubstr("twice")) << "protobuf would put both together";
  ProcessRules labelled = rules;
  labelled.security_label = "crisp-default";
  EXPECT_FALSE(CheckProcess(Core(fine, filter), labelled)) << "no profile at all";
  EXPECT_TRUE(CheckProcess(Core(fine + Bytes(15, "crisp-default"), filter), labelled));
  const std::string whole = Core(fine, filter);
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(CheckProcess(whole.substr(0, size), rules)) << size;
  EXPECT_FALSE(CheckProcess(whole + whole.substr(8, 3), rules));
  EXPECT_FALSE(CheckProcess("utsns", rules));
}

std::string Image(const std::string& magics, const std::string& entry) {
  std::string image = magics;
  for (int shift = 0; shift < 32; shift += 8) image += static_cast<char>(entry.size() >> shift & 0xff);
  return image + entry;
}

// S55: a process that was in the dumper's mount namespace would come back in the node's.
TEST(Processes, S55_NamespacesAreNotTheNodes) {
  std::string pattern = testing::TempDir() + "/namespaces-XXXXXX";
  const std::string dir = mkdtemp(pattern.data());
  ProcessRules rules = *RulesOf(R"({"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}})");
  const std::string common("\x19\x43\x56\x54", 4), service("\x40\x59\x10\x55", 4);
  auto put = [&](const std::string& name, const std::string& image) { std::ofstream(dir + "/" + name) << image; };
  auto check = [&](uint64_t pid_namespace, uint64_t mount_namespace) {
    put("ids-1.img", Image(common + std::string("\x30\x20\x43\x54", 4), Number(5, pid_namespace) + Number(9, mount_namespace)));
    return CheckNamespaces(dir, rules);
  };
  put("inventory.img", Image(service + std::string("\x16\x31\x31\x58", 4), Number(1, 2) + Bytes(3, Number(5, 1) + Number(9, 1))));
  put("pstree.img", Image(common + std::string("\x30\x30\x27\x50", 4), Number(1, 1) + Number(2, 0)));
  EXPECT_TRUE(check(2, 2)) << check(2, 2).error().message();
  EXPECT_FALSE(check(2, 1)) << "the node's mounts";
  EXPECT_FALSE(check(1, 2)) << "the node's processes";
  EXPECT_FALSE(check(2, 0));
  rules = *RulesOf(R"({"linux": {"namespaces": [{"type": "mount"}]}})");
  EXPECT_TRUE(check(1, 2)) << "as the request says";
  put("pstree.img", Image(common + std::string("\x30\x30\x27\x50", 4), Number(1, 7)));
  EXPECT_FALSE(check(2, 2)) << "a process without a word of its namespaces";
  put("inventory.img", Image(service + std::string("\x16\x31\x31\x58", 4), Number(1, 2)));
  EXPECT_FALSE(check(2, 2));
  fs::remove_all(dir);
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    std::string pattern = testing::TempDir() + "/checkpoint-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    fs::create_directory(dir_ + "/out");
  }
  ~CheckpointTest() override { fs::remove_all(dir_); }

  void Put(const std::string& name, const std::string& text) { std::ofstream(dir_ + "/" + name) << text; }
  std::string Get(const std::string& name) { return sys::ReadFile(dir_ + "/" + name).value_or("(missing)"); }
  std::vector<std::string> Names(const std::string& sub = "") {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ + sub)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  Result<> Unpack(const std::string& tar, const Limits& limits = {}) {
    Put("in.tar", tar);
    sys::UniqueFd fd = *sys::Open(dir_ + "/in.tar", O_RDONLY);
    return UnpackArchive(Ctx(), fd, dir_ + "/out", limits);
  }

  std::string dir_;
};

std::string Entry(codec::TarEntry entry, const std::string& content = "") {
  entry.size = content.size();
  entry.mode = 0644;
  return StrCat(*codec::TarHeader(entry), content, codec::TarPadding(content.size()));
}
std::string File(const std::string& path, const std::string& content) { return Entry({.path = path}, content); }
std::string Archive(const std::string& entries) { return StrCat(entries, codec::TarTrailer()); }

TEST_F(CheckpointTest, ContainerDumpIsReadBack) {
  ContainerDump dump;
  dump.id = std::string(64, 'a');
  dump.name = "main";
  dump.image = "docker.io/library/busybox:latest";
  dump.image_ref = "sha256:1";
  dump.runtime = "runc";
  dump.created_at = 1'700'000'000'000'000'000;
  std::string text = EncodeContainerDump(dump);
  EXPECT_THAT(text, HasSubstr("\"createdTime\":\"2023-11-14T22:13:20.000000000Z\""));
  Result<ContainerDump> read = ParseContainerDump(text);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->id, dump.id);
  EXPECT_EQ(read->image, dump.image);
  EXPECT_EQ(read->image_ref, dump.image_ref);
  EXPECT_EQ(read->runtime, "runc");
}

TEST_F(CheckpointTest, HostileDumpsAreRefused) {
  EXPECT_FALSE(ParseContainerDump(""));
  EXPECT_FALSE(ParseContainerDump("[]"));
  EXPECT_FALSE(ParseContainerDump(R"({"id":1})"));
  EXPECT_FALSE(ParseContainerDump(R"({"rootfsImageName":"a\nb"})"));
  EXPECT_FALSE(ParseContainerDump(StrCat(R"({"rootfsImageRef":")", std::string(2000, 'x'), "\"}")));
}

TEST_F(CheckpointTest, DeletedFilesStayInside) {
  EXPECT_THAT(*ParseDeletedFiles(R"(["/etc/a","./b//c"])"), ElementsAre("etc/a", "b/c"));
  EXPECT_TRUE(ParseDeletedFiles("null")->empty());
  for (const char* bad :
       {R"(["../x"])", R"(["a/../../x"])", R"(["/"])", R"([""])", R"([1])", R"({"a":1})", "[\"a\\u0000b\"]"}) {
    EXPECT_FALSE(ParseDeletedFiles(bad)) << bad;
  }
  EXPECT_FALSE(ParseDeletedFiles(R"(["a","b"])", {.deleted_max = 1}));
}

TEST_F(CheckpointTest, UtsNamespacesGetAnotherName) {
  EXPECT_EQ(*UtsImage("two"), std::string("\x19\x43\x56\x54\x03\x32\x47\x54\x0d\0\0\0\x0a\x03two\x12\x06(none)", 25));
  EXPECT_FALSE(UtsImage(""));
  EXPECT_FALSE(UtsImage(std::string(65, 'x')));
  EXPECT_TRUE(UtsImage(std::string(64, 'x')));
}

TEST_F(CheckpointTest, BindTargetsAreThoseOfBindMounts) {
  const char* spec = R"({"mounts":[{"destination":"/proc","type":"proc"},{"destination":"/data/","type":"bind"},
                        {"destination":"/etc/hosts","options":["rbind","ro"]}]})";
  EXPECT_THAT(*ParseBindTargets(spec), ElementsAre("/data", "/etc/hosts"));
  EXPECT_TRUE(ParseBindTargets("{}")->empty());
  EXPECT_FALSE(ParseBindTargets(R"({"mounts":[{"destination":"../..","type":"bind"}]})"));
  EXPECT_FALSE(ParseBindTargets(R"({"mounts":{}})"));
}

TEST_F(CheckpointTest, PodDumpIsReadBackAndNamesNoPath) {
  Result<PodDump> read = ParsePodDump(EncodePodDump({"p", "web", "uid", "default", {{"main", "c1.tar"}}}));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->pod_namespace, "default");
  ASSERT_EQ(read->members.size(), 1u);
  EXPECT_EQ(read->members[0].archive, "c1.tar");
  EXPECT_FALSE(ParsePodDump(EncodePodDump({"p", "web", "uid", "default", {{"main", "../c1.tar"}}})));
  EXPECT_FALSE(ParsePodDump(EncodePodDump({"p", "web", "uid", "default", {{"", "c1.tar"}}})));
  EXPECT_FALSE(ParsePodDump(R"({"version":2,"containers":[]})"));
}

TEST_F(CheckpointTest, OnlyKnownMembersHaveNames) {
  EXPECT_EQ(MemberName("./config.dump"), "config.dump");
  EXPECT_EQ(MemberName("/checkpoint/pages-1.img"), "checkpoint/pages-1.img");
  for (const char* bad :
       {"container.log", "checkpoint", "checkpoint/a/b", "../config.dump", "checkpoint/..", "x", "", "/"}) {
    EXPECT_EQ(MemberName(bad), std::nullopt) << bad;
  }
}

TEST_F(CheckpointTest, UnpacksWhatItKnows) {
  ASSERT_TRUE(Unpack(Archive(StrCat(File("config.dump", "{}"), File("container.log", "secret"),
                                    Entry({.type = codec::TarEntry::Type::kDirectory, .path = "checkpoint/"}),
                                    File("checkpoint/core-1.img", "core"), File("rootfs-diff.tar", "diff")))));
  EXPECT_THAT(Names("/out"), ElementsAre("checkpoint", "config.dump", "rootfs-diff.tar"));
  EXPECT_EQ(Get("out/checkpoint/core-1.img"), "core");
  struct stat info;
  ASSERT_EQ(stat((dir_ + "/out/config.dump").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(CheckpointTest, UnpackRefusesTricks) {
  using Type = codec::TarEntry::Type;
  codec::TarEntry link{.type = Type::kSymlink, .path = "config.dump"};
  link.link_target = "/etc/shadow";
  EXPECT_EQ(Unpack(Archive(Entry(link))).error().code(), Code::kInvalidArgument);
  EXPECT_TRUE(Names("/out").empty());
  // A directory's name as a link, then a file below it: the link is not made.
  codec::TarEntry dir_link{.type = Type::kSymlink, .path = "checkpoint"};
  dir_link.link_target = "/tmp";
  ASSERT_TRUE(Unpack(Archive(StrCat(Entry(dir_link), File("checkpoint/a", "x")))));
  EXPECT_FALSE(fs::is_symlink(dir_ + "/out/checkpoint"));
  EXPECT_FALSE(Unpack(Archive(StrCat(File("spec.dump", "1"), File("./spec.dump", "2")))));
}

TEST_F(CheckpointTest, UnpackHasLimits) {
  EXPECT_EQ(Unpack(Archive(File("config.dump", std::string(100, 'x'))), {.bytes_max = 99}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(Unpack(Archive(StrCat(File("status.dump", std::string(60, 'x')), File("spec.dump", std::string(60, 'x')))),
                   {.bytes_max = 99})
                .error()
                .code(),
            Code::kResourceExhausted);
  EXPECT_EQ(
      Unpack(Archive(StrCat(File("checkpoint/a", ""), File("checkpoint/b", ""))), {.images_max = 1}).error().code(),
      Code::kResourceExhausted);
  EXPECT_EQ(Unpack(Archive(File("checkpoint/c", "x")).substr(0, 600)).error().code(), Code::kDataLoss);
}

TEST_F(CheckpointTest, LayersAreCopiedWithoutFollowingLinks) {
  fs::create_directories(dir_ + "/layer/checkpoint");
  Put("layer/config.dump", "{}");
  Put("layer/other", "no");
  Put("layer/checkpoint/core-1.img", "core");
  ASSERT_TRUE(CopyLayer(Ctx(), dir_ + "/layer", dir_ + "/out"));
  EXPECT_THAT(Names("/out"), ElementsAre("checkpoint", "config.dump"));
  fs::remove_all(dir_ + "/out");
  fs::create_directory(dir_ + "/out");
  Put("secret", "s");
  fs::create_symlink(dir_ + "/secret", dir_ + "/layer/spec.dump");
  EXPECT_FALSE(CopyLayer(Ctx(), dir_ + "/layer", dir_ + "/out"));
  EXPECT_EQ(Get("out/spec.dump"), "(missing)");
}

TEST_F(CheckpointTest, AnArchiveAppearsWhole) {
  fs::create_directory(dir_ + "/images");
  Put("images/a.img", "aa");
  {
    Result<ArchiveWriter> writer = ArchiveWriter::Create(dir_ + "/out/c.tar", "t", 1 << 20);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->AddText("config.dump", "{}"));
    ASSERT_TRUE(writer->AddDirectory(Ctx(), "checkpoint", dir_ + "/images"));
    ASSERT_TRUE(writer->AddFile(Ctx(), "container.log", dir_ + "/no-such-log"));
    EXPECT_FALSE(fs::exists(dir_ + "/out/c.tar"));
    ASSERT_TRUE(writer->Commit());
  }
  EXPECT_THAT(Names("/out"), ElementsAre("c.tar"));
  struct stat info;
  ASSERT_EQ(stat((dir_ + "/out/c.tar").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(*CountArchives(dir_ + "/out/d.tar"), 1u);
  std::string tar = *sys::ReadFile(dir_ + "/out/c.tar");
  fs::remove(dir_ + "/out/c.tar");
  ASSERT_TRUE(Unpack(tar));
  EXPECT_EQ(Get("out/checkpoint/a.img"), "aa");
}

TEST_F(CheckpointTest, NothingIsReplacedAndNothingHalfStays) {
  Put("out/c.tar", "mine");
  EXPECT_EQ(ArchiveWriter::Create(dir_ + "/out/c.tar", "t", 100).error().code(), Code::kAlreadyExists);
  fs::create_symlink(dir_ + "/elsewhere", dir_ + "/out/l.tar");
  EXPECT_EQ(ArchiveWriter::Create(dir_ + "/out/l.tar", "t", 100).error().code(), Code::kAlreadyExists);
  {
    Result<ArchiveWriter> writer = ArchiveWriter::Create(dir_ + "/out/n.tar", "t", 1 << 20);
    ASSERT_TRUE(writer);
    Put("out/n.tar", "came between");
    EXPECT_EQ(writer->Commit().error().code(), Code::kAlreadyExists);
  }
  {
    Result<ArchiveWriter> writer = ArchiveWriter::Create(dir_ + "/out/o.tar", "t", 600);
    EXPECT_EQ(writer->AddText("x", std::string(200, 'x')).error().code(), Code::kResourceExhausted);
  }
  EXPECT_THAT(Names("/out"), ElementsAre("c.tar", "l.tar", "n.tar"));
  EXPECT_EQ(Get("out/n.tar"), "came between");
  EXPECT_EQ(Get("out/c.tar"), "mine");
}

TEST_F(CheckpointTest, WhatACrashLeftIsDiscarded) {
  Put("out/.crisp-checkpoint-t", "half");
  ASSERT_TRUE(ArchiveWriter::Discard(dir_ + "/out/c.tar", "t"));
  ASSERT_TRUE(ArchiveWriter::Discard(dir_ + "/out/c.tar", "t"));
  EXPECT_TRUE(Names("/out").empty());
  EXPECT_FALSE(ArchiveWriter::Create("relative.tar", "t", 1));
  EXPECT_FALSE(ArchiveWriter::Create("/", "t", 1));
}

TEST_F(CheckpointTest, CriuTellsWhy) {
  EXPECT_EQ(
      LastErrorOfCriuLog("(00.1) x\n(00.2) Error (criu/a.c:1): no\n(00.3) Error (criu/cr-dump.c:2): Dumping FAILED.\n"),
      "Error (criu/a.c:1): no");
  EXPECT_EQ(LastErrorOfCriuLog("fine\n"), "");
}

}  // namespace
}  // namespace crisp::checkpoint
