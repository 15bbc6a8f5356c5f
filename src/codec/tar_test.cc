#include "codec/tar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "base/strings.h"

namespace crisp::codec {
namespace {

using testing::ElementsAre;
using Type = TarEntry::Type;

class Collector : public TarSink {
 public:
  struct Item {
    TarEntry entry;
    std::string data;
    bool ended = false;
  };
  Result<> OnEntry(const TarEntry& entry) override {
    items.push_back({entry, std::string(entry.size < (1 << 20) ? entry.size : 0, '\0'), false});
    return {};
  }
  Result<> OnData(uint64_t offset, std::string_view bytes) override {
    EXPECT_LE(offset + bytes.size(), items.back().entry.size);
    if (offset + bytes.size() <= items.back().data.size()) items.back().data.replace(offset, bytes.size(), bytes);
    whole += bytes;
    return {};
  }
  Result<> OnEntryEnd() override {
    items.back().ended = true;
    return {};
  }
  Result<> OnRaw(std::string_view bytes) override {
    whole += bytes;
    raw += bytes;
    return {};
  }
  std::vector<Item> items;
  std::string whole, raw;
};

// A header block written field by field, so that tests can lie in it.
class Header {
 public:
  Header(std::string_view name, char type, uint64_t size = 0) : block_(kTarBlock, '\0') {
    Put(0, name);
    Octal(100, 7, 0644);
    Octal(108, 7, 0);
    Octal(116, 7, 0);
    Octal(124, 11, size);
    Octal(136, 11, 0);
    block_[156] = type;
    Put(257, std::string_view("ustar\0" "00", 8));
  }
  Header& Put(size_t at, std::string_view bytes) {
    block_.replace(at, bytes.size(), bytes);
    return *this;
  }
  Header& Octal(size_t at, size_t digits, uint64_t value) {
    std::string text(digits, '0');
    for (size_t i = digits; i-- > 0; value >>= 3) text[i] = static_cast<char>('0' + (value & 7));
    return Put(at, text);
  }
  Header& Base256(size_t at, size_t bytes, int64_t value) {
    std::string text(bytes, value < 0 ? '\xff' : '\0');
    for (size_t i = 0; i < 8 && i < bytes; ++i) text[bytes - 1 - i] = static_cast<char>(value >> (8 * i));
    text[0] = static_cast<char>(text[0] | 0x80);
    return Put(at, text);
  }
  std::string Done() {
    Put(148, "        ");
    uint64_t sum = 0;
    for (char c : block_) sum += static_cast<uint8_t>(c);
    Octal(148, 6, sum);
    block_[154] = '\0';
    return block_;
  }

 private:
  std::string block_;
};

std::string Padded(std::string bytes) { return bytes + std::string(TarPadding(bytes.size())); }
std::string PaxRecord(std::string_view key, std::string_view value) {
  size_t rest = key.size() + value.size() + 3, length = rest + 1;
  while (StrCat(length).size() + rest != length) length = StrCat(length).size() + rest;
  return StrCat(length, " ", key, "=", value, "\n");
}
std::string Pax(const std::string& records) {
  return Header("PaxHeaders/x", 'x', records.size()).Done() + Padded(records);
}
std::string File(std::string_view name, const std::string& content) {
  return Header(name, '0', content.size()).Done() + Padded(content);
}

Result<Collector> Read(std::string_view archive, size_t step = 1u << 20, TarLimits limits = {}) {
  Collector collector;
  TarReader reader(collector, limits);
  for (size_t at = 0; at < archive.size(); at += step) TRY(reader.Push(archive.substr(at, step)));
  TRY(reader.Finish());
  return collector;
}

Code FailureOf(std::string_view archive, TarLimits limits = {}) {
  auto read = Read(archive, 1u << 20, limits);
  return read ? Code(0) : read.error().code();
}

TEST(Tar, ReadsAllKindsAtEveryStep) {
  std::string archive = Header("dir/", '5').Octal(100, 7, 01777).Octal(136, 11, 1234).Done() + File("dir/file", "content") +
                        Header("dir/hard", '1').Put(157, "dir/file").Done() + Header("dir/soft", '2').Put(157, "/a").Done() +
                        Header("null", '3').Octal(329, 7, 1).Octal(337, 7, 3).Done() + Header("pipe", '6').Done() +
                        Header("sda", '4').Octal(329, 7, 8).Done() + std::string(TarTrailer()) + std::string(8192, '\0');
  for (size_t step : {1u, 511u, 512u, 513u, 1u << 20}) {
    auto read = Read(archive, step);
    ASSERT_TRUE(read) << read.error().message();
    ASSERT_EQ(read->items.size(), 7u);
    EXPECT_EQ(read->items[0].entry.type, Type::kDirectory);
    EXPECT_EQ(read->items[0].entry.mode, 01777u);
    EXPECT_EQ(read->items[0].entry.mtime_seconds, 1234);
    EXPECT_EQ(read->items[1].data, "content");
    EXPECT_EQ(read->items[2].entry.link_target, "dir/file");
    EXPECT_EQ(read->items[3].entry.link_target, "/a");
    EXPECT_EQ(read->items[4].entry.device_minor, 3u);
    EXPECT_EQ(read->items[5].entry.type, Type::kFifo);
    EXPECT_EQ(read->items[6].entry.type, Type::kBlockDevice);
    for (const auto& item : read->items) EXPECT_TRUE(item.ended);
    EXPECT_EQ(read->whole, archive);
  }
}

TEST(Tar, PrefixAndLongNames) {
  std::string name(150, 'n');
  std::string archive = Header("tail", '0').Put(345, "some/prefix").Done() +
                        Header("././@LongLink", 'L', 151).Done() + Padded(name + '\0') +
                        Header("././@LongLink", 'K', 151).Done() + Padded(name + '\0') +
                        Header("short", '2').Put(157, "short").Done() + File("plain", "x");
  auto read = Read(archive);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->items[0].entry.path, "some/prefix/tail");
  EXPECT_EQ(read->items[1].entry.path, name);
  EXPECT_EQ(read->items[1].entry.link_target, name);
  EXPECT_EQ(read->items[2].entry.path, "plain");  // the long name was for one entry
}

TEST(Tar, PaxRecords) {
  std::string records = PaxRecord("path", "päth/" + std::string(200, 'p')) + PaxRecord("uid", "3000000") +
                        PaxRecord("gid", "70000") + PaxRecord("mtime", "-1.25") + PaxRecord("comment", "ignored") +
                        PaxRecord("SCHILY.xattr.user.a", std::string("x\0=\ny", 5)) +
                        PaxRecord("LIBARCHIVE.xattr.user.%62", "aGVsbG8") + PaxRecord("LIBARCHIVE.xattr.user.a", "aGVsbG8");
  auto read = Read(Pax(records) + Header("x", '0', 3).Octal(108, 7, 5).Done() + Padded("abc") + File("y", ""));
  ASSERT_TRUE(read) << read.error().message();
  const TarEntry& entry = read->items[0].entry;
  EXPECT_EQ(entry.path, "päth/" + std::string(200, 'p'));
  EXPECT_EQ(entry.uid, 3'000'000u);
  EXPECT_EQ(entry.gid, 70'000u);
  EXPECT_EQ(entry.mtime_seconds, -2);
  EXPECT_EQ(entry.mtime_nanos, 750'000'000);
  using XattrPair = std::pair<std::string, std::string>;
  EXPECT_THAT(entry.xattrs, ElementsAre(XattrPair("user.a", std::string("x\0=\ny", 5)), XattrPair("user.b", "hello")));
  EXPECT_EQ(read->items[1].entry.path, "y");
  EXPECT_EQ(read->items[1].entry.uid, 0u);
}

TEST(Tar, PaxSizeIsForTheEntryNotForAHeaderBetween) {
  std::string archive = Pax(PaxRecord("size", "5")) + Header("././@LongLink", 'L', 4).Done() + Padded("name") +
                        Header("x", '0', 0).Done() + Padded("hello") + File("after", "z");
  auto read = Read(archive);
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_EQ(read->items.size(), 2u);
  EXPECT_EQ(read->items[0].entry.path, "name");
  EXPECT_EQ(read->items[0].data, "hello");
}

TEST(Tar, Base256Numbers) {
  auto read = Read(Header("x", '0').Base256(124, 12, 2).Base256(108, 8, 4'000'000'000).Base256(136, 12, -5).Done() + Padded("ab"));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->items[0].entry.uid, 4'000'000'000u);
  EXPECT_EQ(read->items[0].entry.mtime_seconds, -5);
  EXPECT_EQ(read->items[0].data, "ab");
}

TEST(Tar, LinksHaveNoContentWhateverTheirSizeSays) {
  auto read = Read(Header("l", '1', 1000).Put(157, "t").Done() + File("next", "x"));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->items.size(), 2u);
}

std::string OldSparse() {
  Header header("sparse", 'S', 1024);
  header.Put(257, std::string_view("ustar  \0", 8)).Octal(386, 11, 512).Octal(398, 11, 512).Put(482, "\1").Octal(483, 11, 5000);
  std::string extension(512, '\0');
  extension.replace(0, 11, "00000007640").replace(12, 11, "00000001000");  // offset 4000, length 512
  return header.Done() + extension + std::string(512, 'a') + std::string(512, 'b');
}

TEST(Tar, SparseFilesOfAllFormats) {
  const std::string expected = std::string(512, '\0') + std::string(512, 'a') + std::string(2976, '\0') +
                               std::string(512, 'b') + std::string(488, '\0');
  const std::string content = std::string(512, 'a') + std::string(512, 'b');
  std::string v00 = Pax(PaxRecord("GNU.sparse.size", "5000") + PaxRecord("GNU.sparse.numblocks", "2") +
                        PaxRecord("GNU.sparse.offset", "512") + PaxRecord("GNU.sparse.numbytes", "512") +
                        PaxRecord("GNU.sparse.offset", "4000") + PaxRecord("GNU.sparse.numbytes", "512")) +
                    File("sparse", content);
  std::string v01 = Pax(PaxRecord("GNU.sparse.size", "5000") + PaxRecord("GNU.sparse.name", "sparse") +
                        PaxRecord("GNU.sparse.map", "512,512,4000,512")) +
                    File("GNUSparseFile.0/sparse", content);
  std::string v10 = Pax(PaxRecord("GNU.sparse.major", "1") + PaxRecord("GNU.sparse.minor", "0") +
                        PaxRecord("GNU.sparse.name", "sparse") + PaxRecord("GNU.sparse.realsize", "5000")) +
                    File("GNUSparseFile.0/sparse", Padded("2\n512\n512\n4000\n512\n") + content);
  for (const std::string& archive : {OldSparse(), v00, v01, v10}) {
    for (size_t step : {1u, 700u, 1u << 20}) {
      auto read = Read(archive + File("after", "x"), step);
      ASSERT_TRUE(read) << read.error().message();
      ASSERT_EQ(read->items.size(), 2u);
      EXPECT_EQ(read->items[0].entry.path, "sparse");
      EXPECT_TRUE(read->items[0].data == expected);
      EXPECT_EQ(read->items[1].data, "x");
      EXPECT_EQ(read->whole, archive + File("after", "x"));
    }
  }
}

// What OnRaw gave, read as a skeleton, gives the same entries: with the contents put in again, the same archive.
TEST(Tar, SkeletonAndContentsMakeTheArchiveAgain) {
  std::string archive = Header("dir/", '5').Done() + File("dir/file", std::string(1000, 'q')) +
                        Pax(PaxRecord("path", std::string(300, 'z'))) + File("x", "abc") + OldSparse() + File("empty", "") +
                        std::string(TarTrailer());
  auto read = Read(archive);
  ASSERT_TRUE(read);
  class Again : public Collector {
   public:
    explicit Again(const Collector& source) : source_(source) {}
    Result<> OnEntry(const TarEntry& entry) override {
      const std::string& data = source_.items[next_++].data;
      if (!entry.is_sparse) whole += data;
      for (const auto& chunk : entry.chunks) whole += data.substr(chunk.offset, chunk.length);
      return {};
    }
    Result<> OnEntryEnd() override { return {}; }

   private:
    const Collector& source_;
    size_t next_ = 0;
  };
  for (size_t step : {1u, 512u, 100'000u}) {
    Again again(*read);
    TarReader reader(again, {}, TarContents::kWithoutContents);
    for (size_t at = 0; at < read->raw.size(); at += step) {
      ASSERT_TRUE(reader.Push(std::string_view(read->raw).substr(at, step)));
    }
    ASSERT_TRUE(reader.Finish());
    EXPECT_EQ(again.whole, archive);
  }
}

TEST(Tar, TruncationInsideAnEntryIsDataLoss) {
  std::string archive = Pax(PaxRecord("uid", "1")) + File("file", std::string(700, 'x'));
  for (size_t size = 1; size < archive.size(); ++size) {
    EXPECT_EQ(FailureOf(archive.substr(0, size)), Code::kDataLoss) << size;
  }
  EXPECT_EQ(FailureOf(archive), Code(0));
  EXPECT_EQ(FailureOf(archive + std::string(512, '\0')), Code(0));
}

TEST(Tar, DamagedHeadersAreDataLoss) {
  std::string good = File("file", "x");
  std::string bad_checksum = good;
  bad_checksum[0] = 'F';
  EXPECT_EQ(FailureOf(bad_checksum), Code::kDataLoss);
  EXPECT_EQ(FailureOf(std::string(512, 'A')), Code::kDataLoss);
  EXPECT_EQ(FailureOf(std::string(512, '\0') + good), Code::kDataLoss);
  EXPECT_EQ(FailureOf(Header("x", '0').Put(124, "00000000x00").Done()), Code::kDataLoss);
  EXPECT_EQ(FailureOf(Header("", '0').Done()), Code::kDataLoss);
  EXPECT_EQ(FailureOf(Header("l", '2').Done()), Code::kDataLoss);
  for (std::string record : {"5 a=b\n", "99 a=b\n", "x a=b\n", "0 \n", "6 a=b", "-1 a=b\n", "4 ab\n", "6 =bc\n", "18446744073709551617 a=b\n"}) {
    EXPECT_EQ(FailureOf(Pax(record) + good), Code::kDataLoss) << record;
  }
}

TEST(Tar, S06HugeAndNegativeNumbersAreRefused) {
  const std::string rest(4096, 'x');
  EXPECT_EQ(FailureOf(Header("x", '0').Base256(124, 12, -1).Done() + rest), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("x", '0').Base256(124, 12, INT64_MAX).Done() + rest), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("x", '0').Put(124, std::string(12, '\xff')).Done() + rest), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("x", '0').Put(124, "\x80\x01" + std::string(10, '\0')).Done() + rest), Code::kDataLoss);
  EXPECT_EQ(FailureOf(Header("x", '0').Base256(108, 8, -1).Done()), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("x", '0').Base256(108, 8, 0xffff'ffff).Done()), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("x", '3').Octal(329, 7, 4096).Done()), Code::kInvalidArgument);
  for (const char* value : {"-1", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_EQ(FailureOf(Pax(PaxRecord("size", value)) + Header("x", '0').Done() + rest), Code::kInvalidArgument) << value;
  }
  EXPECT_EQ(FailureOf(Pax(PaxRecord("size", "99999999999999999999")) + Header("x", '0').Done()), Code::kDataLoss);
}

TEST(Tar, S06HugeMetaHeadersAreRefusedBeforeTheyCome) {
  for (char type : {'x', 'g', 'L', 'K'}) {
    EXPECT_EQ(FailureOf(Header("m", type, 4ull << 30).Done()), Code::kInvalidArgument);
    EXPECT_EQ(FailureOf(Header("m", type, (1u << 20) + 1).Done()), Code::kInvalidArgument);
    EXPECT_EQ(FailureOf(Header("m", type).Base256(124, 12, -512).Done()), Code::kInvalidArgument);
  }
  std::string records;
  for (int i = 0; i < 300; ++i) records += PaxRecord(StrCat("SCHILY.xattr.user.", i), "v");
  EXPECT_EQ(FailureOf(Pax(records) + File("x", "")), Code::kInvalidArgument);
}

TEST(Tar, S06SparseMapsAreBounded) {
  TarLimits limits;
  limits.sparse_chunks_max = 100;
  std::string version = PaxRecord("GNU.sparse.major", "1") + PaxRecord("GNU.sparse.minor", "0") + PaxRecord("GNU.sparse.realsize", "5000");
  EXPECT_EQ(FailureOf(Pax(version) + File("s", Padded("2147483648\n")), limits), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(version) + File("s", Padded("-1\n")), limits), Code::kDataLoss);
  EXPECT_EQ(FailureOf(Pax(version) + File("s", Padded("2\n0\n")), limits), Code::kDataLoss);  // more map than content
  EXPECT_EQ(FailureOf(Pax(version) + File("s", std::string(512, '1')), limits), Code::kDataLoss);
  // Chunks that overlap, run backwards, overflow, or do not match the content.
  for (std::string map : {"2\n0\n10\n5\n10\n", "1\n18446744073709551615\n2\n", "1\n4999\n2\n", "1\n0\n10\n", "1\n0\n18446744073709551615\n"}) {
    EXPECT_EQ(FailureOf(Pax(version) + File("s", Padded(map) + "abc"), limits), Code::kDataLoss) << map;
  }
  std::string many = "0,1";
  for (int i = 1; i < 200; ++i) many += StrCat(",", i * 10, ",1");
  EXPECT_EQ(FailureOf(Pax(PaxRecord("GNU.sparse.map", many) + PaxRecord("GNU.sparse.size", "5000")) + File("s", ""), limits),
            Code::kInvalidArgument);
  // Old GNU: extension blocks for ever, empty or full.
  Header header("sparse", 'S', 1024);
  header.Put(257, std::string_view("ustar  \0", 8)).Put(482, "\1").Octal(483, 11, 5000);
  std::string empty_extension(512, '\0');
  empty_extension[504] = 1;
  std::string endless = header.Done();
  for (int i = 0; i < 200; ++i) endless += empty_extension;
  EXPECT_EQ(FailureOf(endless, limits), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(PaxRecord("GNU.sparse.major", "7")) + File("s", "")), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(version) + Header("s", '5').Done()), Code::kInvalidArgument);
}

TEST(Tar, S03NamesThatNoFileCanHave) {
  EXPECT_EQ(FailureOf(Pax(PaxRecord("path", std::string(5000, 'a'))) + File("x", "")), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(PaxRecord("path", std::string("a\0b", 3))) + File("x", "")), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(PaxRecord("linkpath", std::string("a\0b", 3))) + Header("x", '2').Done()), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Pax(PaxRecord(std::string("SCHILY.xattr.user.\0", 19), "v")) + File("x", "")), Code::kInvalidArgument);
  EXPECT_EQ(FailureOf(Header("././@LongLink", 'L', 5000).Done() + Padded(std::string(5000, 'a')) + File("x", "")),
            Code::kInvalidArgument);
  for (char type : {'V', 'M', 'D', 'A', 'z'}) EXPECT_EQ(FailureOf(Header("x", type).Done()), Code::kInvalidArgument);
}

TEST(Tar, WriterIsReadAgain) {
  std::vector<TarEntry> entries(4);
  entries[0] = {.type = Type::kDirectory, .path = "d/", .mode = 0755};
  entries[1] = {.path = std::string(250, 'l'), .mode = 04755, .uid = 5'000'000, .gid = 4'000'000'000, .size = 3,
                .mtime_seconds = 12, .mtime_nanos = 5, .xattrs = {{"user.x", std::string("\0\n", 2)}}};
  entries[2] = {.type = Type::kSymlink, .path = "s", .link_target = std::string(200, 't'), .mtime_seconds = -3, .mtime_nanos = 500'000'000};
  entries[3] = {.type = Type::kCharDevice, .path = "c", .device_major = 4, .device_minor = 64};
  std::string archive;
  for (const TarEntry& entry : entries) {
    archive += *TarHeader(entry);
    archive += Padded(std::string(entry.size, 'c'));
  }
  archive += TarTrailer();
  auto read = Read(archive);
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_EQ(read->items.size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const TarEntry& got = read->items[i].entry;
    EXPECT_EQ(got.type, entries[i].type);
    EXPECT_EQ(got.path, entries[i].path);
    EXPECT_EQ(got.link_target, entries[i].link_target);
    EXPECT_EQ(got.mode, entries[i].mode);
    EXPECT_EQ(got.uid, entries[i].uid);
    EXPECT_EQ(got.gid, entries[i].gid);
    EXPECT_EQ(got.size, entries[i].size);
    EXPECT_EQ(got.mtime_seconds, entries[i].mtime_seconds);
    EXPECT_EQ(got.mtime_nanos, entries[i].mtime_nanos);
    EXPECT_EQ(got.device_minor, entries[i].device_minor);
    EXPECT_EQ(got.xattrs, entries[i].xattrs);
  }
  EXPECT_FALSE(TarHeader({.path = ""}));
  EXPECT_FALSE(TarHeader({.path = std::string("a\0b", 3)}));
}

TEST(Tar, MutatedArchivesNeverCrash) {
  std::mt19937 random(3);
  const std::string good = Pax(PaxRecord("path", "p") + PaxRecord("SCHILY.xattr.user.a", "b")) + File("x", "abc") + OldSparse() +
                           Header("l", '2').Put(157, "t").Done() + std::string(TarTrailer());
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    // A right checksum lets the damage get further in.
    for (size_t at = 0; at + 512 <= bytes.size(); at += 512) {
      Header fixed("", '0');
      fixed.Put(0, std::string_view(bytes).substr(at, 512));
      if (random() % 2 == 0 && bytes[at] != '\0') bytes.replace(at, 512, fixed.Done());
    }
    (void)Read(bytes, 1 + random() % 2000).has_value();
  }
}

}  // namespace
}  // namespace crisp::codec
