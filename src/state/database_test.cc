#include "state/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::state {
namespace {

class DatabaseTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
    path_ = dir_ + "/crisp.db";
  }
  void TearDown() override { ASSERT_TRUE(sys::RemoveTree(dir_)); }
  std::unique_ptr<Database> MustOpen() {
    auto db = Database::Open(path_);
    EXPECT_TRUE(db) << db.error().message();
    return *std::move(db);
  }
  std::string dir_ = "/tmp/crisp-state-XXXXXX";
  std::string path_;
};

TEST_F(DatabaseTest, RowsSurviveReopeningAndListIsByKey) {
  {
    auto db = MustOpen();
    std::string binary("\0\x01\xff", 3);
    ASSERT_TRUE(db->Put("pods", "b", 1, binary, Durability::kSynced));
    ASSERT_TRUE(db->Put("pods", "a", 2, "", Durability::kProcess));
    ASSERT_TRUE(db->Put("other", "a", 7, "x", Durability::kProcess));
    ASSERT_TRUE(db->Put("pods", "c", 1, "gone", Durability::kProcess));
    ASSERT_TRUE(db->Delete("pods", "c", Durability::kProcess));
    ASSERT_TRUE(db->Delete("pods", "never was", Durability::kProcess));
  }
  auto db = MustOpen();
  auto rows = db->List("pods");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].key, "a");
  EXPECT_EQ((*rows)[0].version, 2);
  EXPECT_EQ((*rows)[0].value, "");
  EXPECT_EQ((*rows)[1].value, std::string("\0\x01\xff", 3));
  EXPECT_EQ(*db->Get("other", "a"), "x");
  EXPECT_EQ(db->Get("pods", "c").error().code(), Code::kNotFound);
}

TEST_F(DatabaseTest, FilesAreForTheirOwnerOnly) {
  auto db = MustOpen();
  ASSERT_TRUE(db->Put("t", "k", 1, "v", Durability::kProcess));
  for (const char* suffix : {"", "-wal", ".lock"}) {
    struct stat info;
    ASSERT_EQ(stat((path_ + suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(DatabaseTest, SecondOpenerIsRefusedUntilTheFirstIsGone) {
  auto db = MustOpen();
  auto second = Database::Open(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kFailedPrecondition);
  db.reset();
  EXPECT_TRUE(Database::Open(path_));
}

TEST_F(DatabaseTest, BatchIsAllOrNothingForReaders) {
  auto db = MustOpen();
  std::atomic<bool> stop = false;
  std::atomic<int> torn = 0;
  std::thread reader([&] {
    while (!stop) {
      auto rows = db->List("t");
      if (rows && !rows->empty() && (rows->size() != 2 || (*rows)[0].value != (*rows)[1].value)) ++torn;
    }
  });
  for (int i = 0; i < 200; ++i) {
    std::string value = StrCat(i);
    ASSERT_TRUE(db->Apply(Batch().Put("t", "a", 1, value).Put("t", "b", 1, value), Durability::kProcess));
  }
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0);
}

TEST_F(DatabaseTest, GroupCommitLosesNobody) {
  auto db = MustOpen();
  std::vector<std::thread> writers;
  std::atomic<int> failed = 0;
  for (int w = 0; w < 8; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 50; ++i) {
        auto durability = i % 2 == 0 ? Durability::kSynced : Durability::kProcess;
        if (!db->Put("t", StrCat(w, "-", i), 1, StrCat(i), durability)) ++failed;
        // What was acknowledged is there for everybody.
        if (!db->Get("t", StrCat(w, "-", i))) ++failed;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(failed, 0);
  db.reset();
  EXPECT_EQ(MustOpen()->List("t")->size(), 400u);
}

TEST_F(DatabaseTest, LongWalIsCheckpointedAndKeepsEverything) {
  auto db = MustOpen();
  std::string value(64 << 10, 'x');
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(db->Put("t", StrCat(i % 10), 1, value + StrCat(i), Durability::kProcess));
  db.reset();
  db = MustOpen();
  EXPECT_EQ(db->List("t")->size(), 10u);
  EXPECT_EQ(*db->Get("t", "9"), value + "199");
}

TEST_F(DatabaseTest, AWalThatIsDoneWithIsCutOff) {
  auto db = MustOpen();
  const std::string value(64 << 10, 'x');
  auto cut_off = [&] { return std::filesystem::file_size(path_ + "-wal") == 0; };
  // Up to the commit that wakes the thread, and no further: whoever wrote meanwhile would keep it from cutting.
  constexpr size_t kWakesItBytes = 32 + size_t{1000} * (4096 + 24);  // header and frames, see sqlite.org/fileformat2
  int last = -1;
  while (std::filesystem::file_size(path_ + "-wal") <= kWakesItBytes) {
    ++last;
    ASSERT_TRUE(db->Put("t", StrCat(last % 10), 1, value + StrCat(last), Durability::kProcess));
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!cut_off() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_TRUE(cut_off());
  ASSERT_TRUE(db->Put("t", "after", 1, "y", Durability::kProcess));
  db.reset();
  db = MustOpen();
  EXPECT_EQ(*db->Get("t", StrCat(last % 10)), value + StrCat(last));
  EXPECT_EQ(*db->Get("t", "after"), "y");
}

TEST_F(DatabaseTest, CorruptFileIsMovedAsideAndServiceGoesOn) {
  for (int round = 1; round <= 2; ++round) {
    {
      auto db = MustOpen();
      ASSERT_TRUE(db->Put("t", "k", 1, "v", Durability::kSynced));
    }
    ASSERT_TRUE(sys::WriteFileAtomic(path_, std::string(8192, 'Z'), 0600, sys::Durability::kNone));
    auto db = MustOpen();
    EXPECT_TRUE(db->List("t")->empty());
    ASSERT_TRUE(db->Put("t", "new", 1, "v", Durability::kSynced));
    EXPECT_TRUE(sys::Exists(StrCat(path_, ".corrupt-", round)));
  }
}

TEST_F(DatabaseTest, DamagedPagesAreFoundAtOpen) {
  {
    auto db = MustOpen();
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(db->Put("t", StrCat(i), 1, std::string(2000, 'v'), Durability::kSynced));
  }
  std::string bytes = *sys::ReadFile(path_);
  ASSERT_GT(bytes.size(), 100'000u);
  for (size_t at = 4096; at < bytes.size(); at += 4096) bytes.replace(at, 64, std::string(64, '\xee'));
  ASSERT_TRUE(sys::WriteFileAtomic(path_, bytes, 0600, sys::Durability::kNone));
  auto db = MustOpen();
  EXPECT_TRUE(sys::Exists(path_ + ".corrupt-1"));
  EXPECT_TRUE(db->Put("t", "k", 1, "v", Durability::kSynced));
}

TEST_F(DatabaseTest, FileOfANewerVersionIsLeftAlone) {
  MustOpen().reset();
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw, "PRAGMA user_version=99", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(raw);
  auto db = Database::Open(path_);
  ASSERT_FALSE(db);
  EXPECT_EQ(db.error().code(), Code::kFailedPrecondition);
  EXPECT_FALSE(sys::Exists(path_ + ".corrupt-1"));
}

TEST_F(DatabaseTest, QuarantineTakesTheRowOutAndKeepsIt) {
  auto db = MustOpen();
  ASSERT_TRUE(db->Put("pods", "bad", 3, "garbage", Durability::kSynced));
  ASSERT_TRUE(db->Put("pods", "good", 3, "fine", Durability::kSynced));
  ASSERT_TRUE(db->Quarantine("pods", "bad", "does not parse"));
  EXPECT_EQ(db->List("pods")->size(), 1u);
  db.reset();
  EXPECT_EQ(MustOpen()->List("pods")->size(), 1u);
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &raw), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(raw, "SELECT tbl, key, value, reason FROM quarantine", -1, &statement, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(statement), SQLITE_ROW);
  std::string text;
  for (int i = 0; i < 4; ++i) {
    text += reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
    text += '|';
  }
  EXPECT_EQ(text, "pods|bad|garbage|does not parse|");
  sqlite3_finalize(statement);
  sqlite3_close(raw);
}

// A writer is killed in the middle of its work, again and again: whatever it said was written is there afterwards.
TEST_F(DatabaseTest, AcknowledgedRowsSurviveKill) {
  int written = 0;
  for (int round = 0; round < 5; ++round) {
    int acks[2];
    ASSERT_EQ(pipe(acks), 0);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto db = Database::Open(path_);
      if (!db) _exit(1);
      for (int i = written;; ++i) {
        if (!(*db)->Put("t", StrCat(i), 1, std::string(3000, 'v'), Durability::kProcess)) _exit(1);
        if (write(acks[1], "x", 1) != 1) _exit(1);
      }
    }
    close(acks[1]);
    char ack;
    for (int i = 0; i < 150; ++i) ASSERT_EQ(read(acks[0], &ack, 1), 1);
    written += 150;
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (read(acks[0], &ack, 1) == 1) ++written;
    close(acks[0]);
    EXPECT_GE(MustOpen()->List("t")->size(), static_cast<size_t>(written));
    EXPECT_FALSE(sys::Exists(path_ + ".corrupt-1"));
  }
}

}  // namespace
}  // namespace crisp::state
