#include "state/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/strings.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::state {

Batch& Batch::Put(std::string_view table, std::string_view key, int version, std::string_view value) {
  changes_.push_back({std::string(table), std::string(key), false, version, std::string(value)});
  return *this;
}

Batch& Batch::Delete(std::string_view table, std::string_view key) {
  changes_.push_back({std::string(table), std::string(key), true, 0, {}});
  return *this;
}

Result<> Database::Put(std::string_view table, std::string_view key, int version, std::string_view value,
                       Durability durability) {
  return Apply(Batch().Put(table, key, version, value), durability);
}

Result<> Database::Delete(std::string_view table, std::string_view key, Durability durability) {
  return Apply(Batch().Delete(table, key), durability);
}

namespace {

constexpr int kSchemaVersion = 1;
constexpr int kBusyTimeoutMs = 5000;  // somebody looks at the file with the sqlite3 tool
// Pages in the WAL at which the checkpoint thread is woken (SQLite's own default), and at which a writer checkpoints
// itself because the thread does not keep up: the WAL must not grow without bound.
constexpr int kCheckpointPages = 1000;
constexpr int kCheckpointInlinePages = 16'000;
// Given back to the file system when it is full, so that removals can still be recorded.
constexpr off_t kReserveBytes = 512 << 10;

constexpr const char* kSchema = R"(
  CREATE TABLE IF NOT EXISTS rows (
    tbl TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key));
  CREATE TABLE IF NOT EXISTS quarantine (
    tbl TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL,
    reason TEXT NOT NULL, unix_nanos INTEGER NOT NULL);
)";

Error SqliteError(sqlite3* db, int rc, std::string_view what) {
  std::string message = StrCat(what, ": ", db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
  switch (rc & 0xff) {
    case SQLITE_FULL:
    case SQLITE_NOMEM: return Error(Code::kResourceExhausted, std::move(message));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Error(Code::kDataLoss, std::move(message));
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Error(Code::kUnavailable, std::move(message));
    case SQLITE_PERM:
    case SQLITE_READONLY: return Error(Code::kPermissionDenied, std::move(message));
    default: return Error(Code::kInternal, std::move(message));
  }
}

struct CloseConnection {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
using Connection = std::unique_ptr<sqlite3, CloseConnection>;
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

Result<Connection> Connect(const std::string& path) {
  sqlite3* raw = nullptr;
  int rc = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  Connection db(raw);
  if (rc != SQLITE_OK) return SqliteError(raw, rc, "open " + path);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  sqlite3_wal_autocheckpoint(raw, 0);  // CheckpointLoop does it, off the callers' path
  return db;
}

Result<> Execute(sqlite3* db, const char* sql) {
  int rc = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return SqliteError(db, rc, Trim(Split(Trim(sql), '\n').front()));
  return {};
}

Result<Statement> Prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* raw = nullptr;
  int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (rc != SQLITE_OK) return SqliteError(db, rc, sql);
  return Statement(raw);
}

void BindText(sqlite3_stmt* statement, int index, std::string_view text) {
  sqlite3_bind_text64(statement, index, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
}
void BindBlob(sqlite3_stmt* statement, int index, std::string_view bytes) {
  // A null pointer would bind NULL.
  sqlite3_bind_blob64(statement, index, bytes.empty() ? "" : bytes.data(), bytes.size(), SQLITE_STATIC);
}
std::string ColumnBytes(sqlite3_stmt* statement, int column) {
  const void* bytes = sqlite3_column_blob(statement, column);
  int size = sqlite3_column_bytes(statement, column);
  return size > 0 ? std::string(static_cast<const char*>(bytes), static_cast<size_t>(size)) : std::string();
}

Result<std::string> QueryText(sqlite3* db, const char* sql) {
  Statement statement = TRY(Prepare(db, sql));
  int rc = sqlite3_step(statement.get());
  if (rc != SQLITE_ROW) return SqliteError(db, rc, sql);
  return ColumnBytes(statement.get(), 0);
}

// Everything that must hold before the file is served. kDataLoss: the file is corrupt.
Result<> Prove(sqlite3* db, const std::string& path) {
  if (std::string mode = TRY(QueryText(db, "PRAGMA journal_mode=WAL")); mode != "wal") {
    return Error(Code::kFailedPrecondition, StrCat(path, ": SQLite answers journal mode ", mode, " instead of wal"));
  }
  int version = ParseInt<int>(TRY(QueryText(db, "PRAGMA user_version"))).value_or(0);
  if (version > kSchemaVersion) {
    return Error(Code::kFailedPrecondition, StrCat(path, " was written by a newer version (schema ", version, ")"));
  }
  if (std::string check = TRY(QueryText(db, "PRAGMA quick_check(1)")); check != "ok") {
    return Error(Code::kDataLoss, StrCat(path, ": ", check));
  }
  TRY(Execute(db, kSchema));
  // The columns as we know them: a file of another program with tables of these names must not be taken for ours.
  if (Result<Statement> probe = Prepare(db, "SELECT tbl, key, version, value FROM rows"); !probe) {
    return std::move(probe).error().As(Code::kDataLoss);
  }
  return version == kSchemaVersion ? Result<>() : Execute(db, "PRAGMA user_version=1");
}

Result<Connection> OpenProven(const std::string& path) {
  Connection db = TRY(Connect(path));
  TRY(Prove(db.get(), path));
  return db;
}

Result<> MoveAside(const std::string& path) {
  int n = 1;
  while (sys::Exists(StrCat(path, ".corrupt-", n))) ++n;
  const std::string aside = StrCat(path, ".corrupt-", n);
  if (rename(path.c_str(), aside.c_str()) != 0) return Errno(errno, StrCat("rename ", path, " to ", aside));
  // The WAL belongs to the file: left behind it would be replayed into the new one.
  for (const char* suffix : {"-wal", "-shm"}) {
    if (rename((path + suffix).c_str(), (aside + suffix).c_str()) != 0 && errno != ENOENT) {
      return Errno(errno, StrCat("rename ", path, suffix));
    }
  }
  return {};
}

class SqliteDatabase final : public Database {
 public:
  SqliteDatabase(std::string path, sys::UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  ~SqliteDatabase() override;

  Result<> Start(Connection db);
  Result<> Apply(const Batch& batch, Durability durability) override;
  Result<std::vector<Row>> List(std::string_view table) override;
  Result<std::string> Get(std::string_view table, std::string_view key) override;
  Result<> Quarantine(std::string_view table, std::string_view key, std::string_view reason) override;

 private:
  struct Waiter {
    const Batch* batch;
    Durability durability;
    std::optional<Result<>> outcome;
  };
  std::vector<Result<>> CommitGroup(const std::deque<Waiter*>& group);
  Result<> CommitWithRoom(const std::deque<Waiter*>& group);
  Result<> Commit(const std::deque<Waiter*>& group);
  Result<> ApplyChanges(const Batch& batch);
  Result<> Step(sqlite3_stmt* statement, std::string_view what);
  void MakeReserve();
  void CheckpointLoop();
  void CutOffWal(sqlite3* db, int pages);

  const std::string path_;
  sys::UniqueFd lock_;

  // Group commit: whoever finds no leader leads, and commits everything queued by then in one transaction.
  std::mutex queue_mutex_;  // never held together with connection_mutex_
  std::condition_variable queue_changed_;
  std::deque<Waiter*> queue_;
  bool has_leader_ = false;

  std::mutex connection_mutex_;  // guards everything below up to the checkpoint's part
  Connection db_;
  Statement put_, delete_, get_, list_, quarantine_, begin_, commit_;
  bool synced_commits_ = false;
  bool reserve_made_ = false;
  int wal_pages_ = 0;

  std::mutex checkpoint_mutex_;
  std::condition_variable checkpoint_wanted_;
  bool checkpoint_due_ = false;
  bool stopping_ = false;
  std::thread checkpointer_;
};

Result<> SqliteDatabase::Start(Connection db) {
  db_ = std::move(db);
  TRY(Execute(db_.get(), "PRAGMA synchronous=NORMAL"));
  sqlite3_wal_hook(
      db_.get(),
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<SqliteDatabase*>(self)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  // Not OR REPLACE: that gives the row another place, and the index a new entry, at every change.
  put_ = TRY(Prepare(db_.get(),
                     "INSERT INTO rows (tbl, key, version, value) VALUES (?, ?, ?, ?) "
                     "ON CONFLICT (tbl, key) DO UPDATE SET version = excluded.version, value = excluded.value"));
  delete_ = TRY(Prepare(db_.get(), "DELETE FROM rows WHERE tbl = ? AND key = ?"));
  get_ = TRY(Prepare(db_.get(), "SELECT value FROM rows WHERE tbl = ? AND key = ?"));
  list_ = TRY(Prepare(db_.get(), "SELECT key, version, value FROM rows WHERE tbl = ? ORDER BY key"));
  quarantine_ = TRY(Prepare(db_.get(),
                            "INSERT INTO quarantine SELECT tbl, key, version, value, ?, ? FROM rows "
                            "WHERE tbl = ? AND key = ?"));
  begin_ = TRY(Prepare(db_.get(), "BEGIN IMMEDIATE"));
  commit_ = TRY(Prepare(db_.get(), "COMMIT"));
  MakeReserve();
  checkpointer_ = std::thread([this] { CheckpointLoop(); });
  return {};
}

SqliteDatabase::~SqliteDatabase() {
  {
    std::lock_guard lock(checkpoint_mutex_);
    stopping_ = true;
  }
  checkpoint_wanted_.notify_all();
  if (checkpointer_.joinable()) checkpointer_.join();
}

Result<> SqliteDatabase::Apply(const Batch& batch, Durability durability) {
  if (batch.changes().empty()) return {};
  Waiter waiter{&batch, durability, {}};
  std::unique_lock lock(queue_mutex_);
  queue_.push_back(&waiter);
  queue_changed_.wait(lock, [&] { return waiter.outcome || !has_leader_; });
  if (waiter.outcome) return *std::move(waiter.outcome);
  has_leader_ = true;
  std::deque<Waiter*> group = std::move(queue_);
  queue_.clear();
  lock.unlock();
  std::vector<Result<>> outcomes = CommitGroup(group);
  lock.lock();
  // All in one critical section: a waiter that sees its outcome may return and be gone.
  for (size_t i = 0; i < group.size(); ++i) group[i]->outcome = std::move(outcomes[i]);
  has_leader_ = false;
  lock.unlock();
  queue_changed_.notify_all();
  return *std::move(waiter.outcome);
}

std::vector<Result<>> SqliteDatabase::CommitGroup(const std::deque<Waiter*>& group) {
  std::lock_guard lock(connection_mutex_);
  Result<> done = CommitWithRoom(group);
  if (done || group.size() == 1) return std::vector<Result<>>(group.size(), done);
  // One batch too big for the disk must not fail its neighbours.
  std::vector<Result<>> outcomes;
  for (Waiter* member : group) outcomes.push_back(CommitWithRoom({member}));
  return outcomes;
}

// A full disk must not stop removals from being recorded: begin the WAL's file over again (its blocks are ours
// already), and give back the reserve.
Result<> SqliteDatabase::CommitWithRoom(const std::deque<Waiter*>& group) {
  Result<> done = Commit(group);
  if (done || done.error().code() != Code::kResourceExhausted) return done;
  sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_RESTART, nullptr, nullptr);
  done = Commit(group);
  if (done || !reserve_made_) return done;
  unlink((path_ + ".reserve").c_str());
  reserve_made_ = false;
  sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_RESTART, nullptr, nullptr);
  return Commit(group);
}

Result<> SqliteDatabase::Commit(const std::deque<Waiter*>& group) {
  bool synced = false;
  for (const Waiter* member : group) synced = synced || member->durability == Durability::kSynced;
  if (synced != synced_commits_) {
    TRY(Execute(db_.get(), synced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
    synced_commits_ = synced;
  }
  auto in_transaction = [&]() -> Result<> {
    for (const Waiter* member : group) TRY(ApplyChanges(*member->batch));
    return Step(commit_.get(), "commit");
  };
  TRY(Step(begin_.get(), "begin"));
  if (Result<> done = in_transaction(); !done) {
    // Fails harmlessly where SQLite has rolled back by itself.
    sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return done;
  }
  if (!reserve_made_) MakeReserve();
  if (wal_pages_ > kCheckpointInlinePages) {
    sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_RESTART, nullptr, nullptr);
  } else if (wal_pages_ > kCheckpointPages) {
    std::lock_guard lock(checkpoint_mutex_);
    checkpoint_due_ = true;
    checkpoint_wanted_.notify_one();
  }
  return {};
}

Result<> SqliteDatabase::ApplyChanges(const Batch& batch) {
  for (const Batch::Change& change : batch.changes()) {
    sqlite3_stmt* statement = change.is_delete ? delete_.get() : put_.get();
    BindText(statement, 1, change.table);
    BindText(statement, 2, change.key);
    if (!change.is_delete) {
      sqlite3_bind_int(statement, 3, change.version);
      BindBlob(statement, 4, change.value);
    }
    TRY(Step(statement, StrCat("write ", change.table, "/", change.key)));
  }
  return {};
}

Result<> SqliteDatabase::Step(sqlite3_stmt* statement, std::string_view what) {
  int rc = sqlite3_step(statement);
  Result<> result;
  if (rc != SQLITE_DONE) result = SqliteError(db_.get(), rc, StrCat(path_, ": ", what));
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return result;
}

void SqliteDatabase::MakeReserve() {
  Result<sys::UniqueFd> fd = sys::Open(path_ + ".reserve", O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
  if (!fd) return;
  reserve_made_ = posix_fallocate(fd->get(), 0, kReserveBytes) == 0;
  if (!reserve_made_) unlink((path_ + ".reserve").c_str());
}

void SqliteDatabase::CheckpointLoop() {
  auto connect = [this]() -> Result<Connection> {
    Connection db = TRY(Connect(path_));
    // A connection that has read nothing knows of no WAL yet, and checkpoints nothing (sqlite3PagerCheckpoint).
    TRY(QueryText(db.get(), "PRAGMA user_version"));
    sqlite3_busy_timeout(db.get(), 0);  // nobody is waited for with our writers' lock held
    return db;
  };
  Result<Connection> own = connect();
  bool told = false;  // each commit comes by here
  std::unique_lock lock(checkpoint_mutex_);
  while (true) {
    checkpoint_wanted_.wait(lock, [&] { return checkpoint_due_ || stopping_; });
    if (stopping_) return;
    checkpoint_due_ = false;
    lock.unlock();
    // Passive: never waits for, nor holds up, a writer. A failure only leaves the WAL longer; the next try is near.
    if (!own) own = connect();
    if (!own && !std::exchange(told, true))
      LogWarning("no checkpoint of the database, its WAL grows", {{"error", own.error()}});
    int pages = 0, done = 0;
    if (own) sqlite3_wal_checkpoint_v2(own->get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
    if (own && pages > kCheckpointPages && done == pages) CutOffWal(own->get(), done);
    lock.lock();
  }
}

// A WAL of `pages`, all of which are in the database: the next start need not read them again.
void SqliteDatabase::CutOffWal(sqlite3* db, int pages) {
  std::lock_guard writers(connection_mutex_);
  if (wal_pages_ != pages) return;  // somebody has written meanwhile: our writers are not to wait for more than the cut
  if (sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr) == SQLITE_OK) wal_pages_ = 0;
}

Result<std::vector<Row>> SqliteDatabase::List(std::string_view table) {
  std::lock_guard lock(connection_mutex_);
  BindText(list_.get(), 1, table);
  std::vector<Row> rows;
  int rc;
  while ((rc = sqlite3_step(list_.get())) == SQLITE_ROW) {
    rows.push_back({ColumnBytes(list_.get(), 0), sqlite3_column_int(list_.get(), 1), ColumnBytes(list_.get(), 2)});
  }
  Result<std::vector<Row>> result = std::move(rows);
  if (rc != SQLITE_DONE) result = SqliteError(db_.get(), rc, StrCat(path_, ": list ", table));
  sqlite3_reset(list_.get());
  sqlite3_clear_bindings(list_.get());
  return result;
}

Result<std::string> SqliteDatabase::Get(std::string_view table, std::string_view key) {
  std::lock_guard lock(connection_mutex_);
  BindText(get_.get(), 1, table);
  BindText(get_.get(), 2, key);
  int rc = sqlite3_step(get_.get());
  Result<std::string> result = Error(Code::kNotFound, StrCat("no record ", table, "/", key));
  if (rc == SQLITE_ROW) {
    result = ColumnBytes(get_.get(), 0);
  } else if (rc != SQLITE_DONE) {
    result = SqliteError(db_.get(), rc, StrCat(path_, ": read ", table, "/", key));
  }
  sqlite3_reset(get_.get());
  sqlite3_clear_bindings(get_.get());
  return result;
}

Result<> SqliteDatabase::Quarantine(std::string_view table, std::string_view key, std::string_view reason) {
  std::lock_guard lock(connection_mutex_);
  auto move_row = [&]() -> Result<> {
    BindText(quarantine_.get(), 1, reason);
    sqlite3_bind_int64(quarantine_.get(), 2, UnixNanosNow());
    BindText(quarantine_.get(), 3, table);
    BindText(quarantine_.get(), 4, key);
    TRY(Step(quarantine_.get(), StrCat("quarantine ", table, "/", key)));
    BindText(delete_.get(), 1, table);
    BindText(delete_.get(), 2, key);
    TRY(Step(delete_.get(), StrCat("quarantine ", table, "/", key)));
    return Step(commit_.get(), "commit");
  };
  TRY(Step(begin_.get(), "begin"));
  Result<> moved = move_row();
  if (!moved) sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  return moved;
}

Result<sys::UniqueFd> LockFile(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Error(Code::kFailedPrecondition, path + " is held: another process uses this directory");
  return Errno(errno, "lock " + path);
}

// SQLite creates files with the umask; ours is 0600 from the first moment.
Result<> CreateFile(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (fchmod(fd.get(), 0600) != 0) return Errno(errno, "chmod " + path);
  return {};
}

}  // namespace

Result<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  sys::UniqueFd lock = TRY(LockFile(path + ".lock"));
  TRY(CreateFile(path));
  Result<Connection> db = OpenProven(path);
  if (!db && db.error().code() == Code::kDataLoss) {
    LogError("database is corrupt, moved aside and begun anew", {{"path", path}, {"error", db.error()}, {"recovered", "false"}});
    TRY(MoveAside(path));
    TRY(CreateFile(path));
    db = OpenProven(path);
  }
  if (!db) return std::move(db).error();
  auto database = std::make_unique<SqliteDatabase>(path, std::move(lock));
  TRY(database->Start(*std::move(db)), path);
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace crisp::state
