#include "shim/process_start.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::shim {

namespace {

// A worker of the runtime that has done its work and only needs to end.
constexpr std::chrono::milliseconds kAdoptionTime{2000};

// A whole file, read where it lies: a launch is large, and the shim shall stay small.
class Mapping {
 public:
  static Result<Mapping> Make(sys::BorrowedFd file) {
    struct stat st{};
    if (fstat(file.get(), &st) != 0) return Errno(errno, "stat the launch");
    if (st.st_size <= 0 || static_cast<size_t>(st.st_size) > native::kLaunchBytesMax) {
      return Error(Code::kInvalidArgument, "not a launch");
    }
    void* memory = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (memory == MAP_FAILED) return Errno(errno, "map the launch");
    return Mapping(static_cast<char*>(memory), static_cast<size_t>(st.st_size));
  }
  Mapping(Mapping&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_) {}
  ~Mapping() {
    if (memory_ != nullptr) munmap(memory_, size_);
  }
  std::string_view bytes() const { return {memory_, size_}; }

 private:
  Mapping(char* memory, size_t size) : memory_(memory), size_(size) {}
  char* memory_;
  size_t size_;
};

}  // namespace

Result<> RuntimeRun::Start(const std::vector<std::string>& argv, const std::map<int, sys::BorrowedFd>& fds) {
  if (argv.empty()) return Error(Code::kInvalidArgument, "no command line");
  sys::Command command;
  command.program = argv.front();
  command.args.assign(argv.begin() + 1, argv.end());
  command.working_dir = "/";
  command.fds = fds;
  process_ = TRY(sys::Spawn(command));
  around_.children.AddRuntime(process_->pid(), [this](sys::ExitStatus status) { OnExit(status); });
  return {};
}

RuntimeRun::~RuntimeRun() {
  around_.loop.CancelTimer(timer_);
  if (adopting_ > 0) around_.children.ForgetAdoption(adopting_);
}

void RuntimeRun::Kill() {
  if (process_) KillTree(process_->pid());  // not reaped yet
  KillChildrenByArgument(pid_file_);
}

void RuntimeRun::OnExit(sys::ExitStatus status) {
  process_.reset();
  if (status.signal != 0) return Finish(Error(Code::kUnknown, StrCat("the runtime was killed by signal ", status.signal)));
  if (status.code != 0) return Finish(Error(Code::kUnknown, StrCat("the runtime exited with code ", status.code)));
  Result<std::string> text = sys::ReadFile(pid_file_, 64);
  if (!text) return Finish(std::move(text).error());
  std::optional<pid_t> pid = ParseInt<pid_t>(Trim(*text));
  if (!pid || *pid <= 1) return Finish(Error(Code::kInternal, StrCat("pid file of the runtime says ", Quote(*text))));
  adopting_ = *pid;
  around_.children.Adopt(adopting_, [this] { Finish(NewProcess{std::exchange(adopting_, 0), {}}); });
  timer_ = around_.loop.After(kAdoptionTime, [this] {
    timer_ = 0;
    around_.children.ForgetAdoption(adopting_);
    Finish(Error(Code::kInternal, StrCat("process ", std::exchange(adopting_, 0), " was not left to us by the runtime")));
  });
}

void RuntimeRun::Finish(Result<NewProcess> result) {
  around_.loop.CancelTimer(std::exchange(timer_, 0));
  unlink(pid_file_.c_str());
  // `done` may destroy us.
  Done done = std::move(done_);
  done(std::move(result));
}

NativeStart::~NativeStart() {
  around_.loop.Unwatch(watch_);
  if (go_.ok() && !ended_) {
    Kill();
    around_.children.Add(launching_->pid(), [](sys::ExitStatus) {});
  }
  if (!held_) return;
  around_.children.Release();
  // What ended meanwhile was left alone, and is not told of again.
  around_.loop.After(std::chrono::milliseconds(0), [&children = around_.children] { children.Reap(); });
}

Result<> NativeStart::Start(sys::BorrowedFd launch, std::optional<sys::BorrowedFd> container,
                            const native::LaunchOptions& options, Done done) {
  Mapping mapping = TRY(Mapping::Make(launch));
  native::Launching launching = TRY(container ? native::Launching::StartExec(mapping.bytes(), *container, options)
                                              : native::Launching::Start(mapping.bytes(), options));
  launching_.emplace(std::move(launching));
  return Watch(std::move(done));
}

Result<> NativeStart::Prepare(sys::BorrowedFd launch, native::LaunchOptions options, std::function<void()> ended) {
  Mapping mapping = TRY(Mapping::Make(launch));
  sys::Pipe go = TRY(sys::MakePipe());
  options.start_fifo = go.read.get();
  options.wait_late = true;
  native::Launching launching = TRY(native::Launching::Start(mapping.bytes(), options));
  launching_.emplace(std::move(launching));
  if (launching_->pid() == 0) {
    Kill();
    return Error(Code::kInvalidArgument, "a launch with helpers cannot be prepared");
  }
  go_ = std::move(go.write);
  around_.children.Add(launching_->pid(), [this, ended = std::move(ended)](sys::ExitStatus) {
    ended_ = true;
    ended();
  });
  return {};
}

Result<> NativeStart::Go(Done done) {
  if (!ended_) TRY(launching_->Advance());
  if (ended_) return Error(Code::kAborted, "the process that was prepared has ended");
  around_.children.Forget(launching_->pid());
  TRY(Watch(std::move(done)));
  // The last that can fail: a program that may run is not begun anew.
  const char byte = '+';
  if (write(go_.get(), &byte, 1) != 1) {
    const int error = errno;
    around_.loop.Unwatch(std::exchange(watch_, 0));
    return Errno(error, "let the container's process go on");
  }
  go_.Reset();
  return {};
}

Result<> NativeStart::Watch(Done done) {
  done_ = std::move(done);
  around_.children.Hold();
  held_ = true;
  // Its end only, which comes at the exec or when the process is gone: what it has sent by then is all read at once.
  Result<Loop::Id> watch = around_.loop.Watch(launching_->fd(), EPOLLRDHUP, [this](uint32_t) { OnProgress(); });
  if (!watch) {
    Kill();
    return std::move(watch).error();
  }
  watch_ = *watch;
  return {};
}

void NativeStart::Kill() {
  if (ended_) return;
  // For the number of the process. An error comes again, or is that of a start that is given up.
  (void)launching_->Advance().has_value();
  // Children that nobody has reaped: the numbers are theirs.
  for (pid_t pid : {launching_->helper_pid(), launching_->pid()}) {
    if (pid > 0) KillTree(pid);  // with the hook that it may be running
  }
}

void NativeStart::OnProgress() {
  Result<native::Launching::Progress> progress = launching_->Advance();
  if (!progress) return Finish(std::move(progress).error());
  if (*progress != native::Launching::Progress::kRunning) return;
  Finish(NewProcess{launching_->pid(), launching_->TakeTerminal()});
}

void NativeStart::Finish(Result<NewProcess> result) {
  around_.loop.Unwatch(std::exchange(watch_, 0));
  // What is left of a start that failed is on its way out; a stage may still wait for something.
  if (!result) Kill();
  // `done` may destroy us, and makes the process known before unknown ones may be reaped.
  Done done = std::move(done_);
  done(std::move(result));
}

}  // namespace crisp::shim
