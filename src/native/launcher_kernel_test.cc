// Real processes in namespaces of their own; the root file system is a directory with the node's /usr bound into it.
#include "native/launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount_namespace.h"
#include "sys/mountinfo.h"
#include "sys/spawn.h"

namespace crisp::native {
namespace {

using testing::HasSubstr;

struct Ended {
  std::string out;
  int code = -1, signal = 0;
  std::string error;  // of the start
};

// With the parameter: the root is built in bare mounts where it can be.
class LauncherTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-launch-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    chmod(name, 0755);
    for (const char* sub : {"", "/usr", "/proc", "/dev", "/tmp", "/etc", "/sys"}) ASSERT_TRUE(sys::MakeDir(dir_ + "/root" + sub, 0755));
    for (const char* link : {"bin", "sbin", "lib", "lib64"}) ASSERT_EQ(symlink(StrCat("usr/", link).c_str(), StrCat(dir_, "/root/", link).c_str()), 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (GetParam()) bare_ = *sys::MakeBareMountNamespace();
    node_mounts_ = sys::ReadMountInfo()->size();
  }
  void TearDown() override {
    EXPECT_EQ(sys::ReadMountInfo()->size(), node_mounts_);
    ASSERT_TRUE(sys::RemoveTree(dir_));
  }

  Launch Basic(std::vector<std::string> args) {
    Launch launch;
    launch.id = "test";
    launch.bundle = dir_;
    launch.oci_version = "1.2.0";
    launch.rootfs = dir_ + "/root";
    launch.new_namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
    launch.mounts.push_back(Filesystem("/proc", "proc", ""));
    launch.mounts.push_back(Filesystem("/dev", "tmpfs", "mode=755,size=65536k"));
    launch.mounts.push_back(Filesystem("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    Mount usr;
    usr.target = usr.source = "/usr";
    usr.recursive = true;
    usr.recursive_set = MOUNT_ATTR_RDONLY;
    launch.mounts.push_back(usr);
    launch.devices.push_back({"/dev/null", S_IFCHR, 1, 3, 0666, 0, 0});
    launch.symlinks.push_back({"/dev/fd", "/proc/self/fd"});
    launch.hostname = "inside";
    launch.process.args = std::move(args);
    launch.process.env = {"PATH=/usr/bin:/bin:/usr/sbin"};
    launch.process.bounding = launch.process.effective = launch.process.permitted = 0x3fb;
    launch.process.no_new_privileges = true;
    if (bare_.ok()) launch.bare_mounts = StrCat("/proc/", getpid(), "/fd/", bare_.get());
    return launch;
  }
  static Mount Filesystem(const std::string& target, const std::string& type, const std::string& data) {
    Mount mount;
    mount.kind = Mount::kFilesystem;
    mount.target = target;
    mount.fstype = mount.source = type;
    mount.data = data;
    return mount;
  }

  static int Wait(pid_t pid, int* signal) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + *signal;
  }

  // Until the program runs, or waits for its start.
  static Result<> Await(Launching& launching, Launching::Progress wanted) {
    while (true) {
      pollfd event{launching.fd().get(), POLLIN, 0};
      if (poll(&event, 1, 20'000) <= 0) return Error(Code::kDeadlineExceeded, "the launch says nothing");
      Launching::Progress progress = TRY(launching.Advance());
      if (progress == wanted) return {};
    }
  }

  Ended Finish(Result<Launching> launching, sys::Pipe out) {
    Ended ended;
    out.write.Reset();
    if (!launching) {
      ended.error = launching.error().message();
      return ended;
    }
    Result<> ran = Await(*launching, Launching::Progress::kRunning);
    if (!ran) {
      ended.error = ran.error().message();
      Result<Launching::Progress> again = launching->Advance();
      EXPECT_EQ(again ? "no error" : again.error().message(), ended.error);
    }
    if (sys::UniqueFd terminal = launching->TakeTerminal(); terminal.ok()) {
      char buffer[4096];
      ssize_t n;
      while ((n = read(terminal.get(), buffer, sizeof buffer)) > 0) ended.out.append(buffer, static_cast<size_t>(n));
    }
    ended.out += sys::ReadAll(out.read, 1u << 20).value_or("");
    if (launching->pid() > 0) ended.code = Wait(launching->pid(), &ended.signal);
    int ignored;
    if (launching->helper_pid() > 0) Wait(launching->helper_pid(), &ignored);
    return ended;
  }

  Ended Run(const Launch& launch) {
    sys::Pipe out = *sys::MakePipe();
    sys::UniqueFd null = *sys::Open("/dev/null", O_RDWR);
    std::string bytes = *Encode(launch);
    LaunchOptions options{.in = null.get(), .out = out.write.get(), .err = out.write.get()};
    return Finish(Launching::Start(bytes, options), std::move(out));
  }
  Ended Sh(const std::string& script) { return Run(Basic({"sh", "-c", script})); }

  std::string dir_;
  sys::UniqueFd bare_;
  size_t node_mounts_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Mounts, LauncherTest, testing::Bool(),
                         [](const auto& each) { return each.param ? "Bare" : "Copied"; });

TEST_P(LauncherTest, RunsInItsOwnWorld) {
  Ended ended = Sh("hostname; echo $$; cat /proc/1/comm; ls /; ls /proc/self/fd; exit 7");
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.code, 7);
  EXPECT_EQ(ended.out, "inside\n1\nsh\nbin\ndev\netc\nlib\nlib64\nproc\nsbin\nsys\ntmp\nusr\n0\n1\n2\n3\n");
}

// S31, S32: no descriptor of ours, no inheritable capability; S33: the groups are those asked for.
TEST_P(LauncherTest, PrivilegesAreThoseAskedFor) {
  Launch launch = Basic({"sh", "-c", "grep -E '^(Cap|Groups|Uid|NoNewPrivs)' /proc/self/status; umask"});
  launch.process.uid = 1000;
  launch.process.gid = 1001;
  launch.process.groups = {7, 8};
  launch.process.bounding = 0x3ff;
  launch.process.effective = launch.process.permitted = 0x400;
  launch.process.umask = 027;
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.out, HasSubstr("Uid:\t1000\t1000\t1000\t1000"));
  EXPECT_THAT(ended.out, HasSubstr("Groups:\t7 8 \n"));
  EXPECT_THAT(ended.out, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(ended.out, HasSubstr("CapBnd:\t00000000000003ff"));
  EXPECT_THAT(ended.out, HasSubstr("CapAmb:\t0000000000000000"));
  EXPECT_THAT(ended.out, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(ended.out, HasSubstr("0027"));
}

TEST_P(LauncherTest, MasksAndReadOnly) {
  Launch launch = Basic({"sh", "-c", "wc -c < /proc/version; ls -A /proc/irq /proc/bus | wc -l; echo x > /proc/sys/kernel/core_pattern || echo refused; "
                                     "echo x > /usr/x || echo refused; echo x > /etc/x || echo refused"});
  launch.masked_paths = {"/proc/version", "/proc/irq", "/proc/bus", "/proc/missing"};
  launch.read_only_paths = {"/proc/sys", "/proc/missing"};
  launch.rootfs_read_only = true;
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.out, testing::StartsWith("0\n3\n"));  // two headings of ls with an empty line between, and nothing else
  size_t refused = 0;
  for (size_t at = 0; (at = ended.out.find("refused", at)) != std::string::npos; ++at) ++refused;
  EXPECT_EQ(refused, 3u) << ended.out;
}

// S26: a masked file is the node's /dev/null, which nobody inside changes.
TEST_P(LauncherTest, TheNodesNullIsNotChanged) {
  Launch launch = Basic({"sh", "-c", "chmod 666 /proc/version || echo refused; echo x > /proc/version && echo written"});
  launch.masked_paths = {"/proc/version"};
  Ended ended = Run(launch);
  EXPECT_THAT(ended.out, HasSubstr("refused\n"));
  EXPECT_THAT(ended.out, HasSubstr("written\n"));
}

TEST_P(LauncherTest, TmpfsKeepsTheModeOfWhatItCovers) {
  ASSERT_EQ(chmod((dir_ + "/root/tmp").c_str(), 01770), 0);
  Launch launch = Basic({"sh", "-c", "stat -c %a /tmp; stat -c %a /etc"});
  launch.mounts.push_back(Filesystem("/tmp", "tmpfs", ""));
  launch.mounts.push_back(Filesystem("/etc", "tmpfs", "mode=700"));
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "1770\n700\n");
}

TEST_P(LauncherTest, MountsAreMadeInWhatCoversTheirParent) {
  Launch launch = Basic({"sh", "-c",
                         "for dir in /tmp/in /tmp/in/side /tmp/third; do [ $(stat -c %d $dir) != $(stat -c %d $dir/..) "
                         "] && echo $dir; done; ls /tmp"});
  for (const char* target : {"/tmp/first", "/tmp/second", "/tmp", "/tmp/in", "/tmp/in/side", "/tmp/third"}) {
    launch.mounts.push_back(Filesystem(target, "tmpfs", ""));
  }
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "/tmp/in\n/tmp/in/side\n/tmp/third\nin\nthird\n");
}

TEST_P(LauncherTest, PipesAreTheUsersOwn) {
  Launch launch = Basic({"sh", "-c", "echo opened > /proc/self/fd/1"});
  launch.process.uid = launch.process.gid = 1000;
  launch.process.effective = launch.process.permitted = 0;
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "opened\n");
}

// Their programs are the image's.
TEST_P(LauncherTest, StartHooksHaveTheProcessPrivileges) {
  Launch launch = Basic({"cat", "/tmp/status"});
  launch.process.uid = launch.process.gid = 1000;
  launch.process.effective = launch.process.permitted = 0;
  ASSERT_EQ(chmod((dir_ + "/root/tmp").c_str(), 01777), 0);
  launch.start_container = {{"/bin/sh", {"sh", "-c", "grep -E '^(Uid|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status > /tmp/status"}, {"PATH=/bin:/usr/bin"}, 10}};
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.out, HasSubstr("Uid:\t1000\t1000\t1000\t1000"));
  EXPECT_THAT(ended.out, HasSubstr("CapPrm:\t0000000000000000"));
  EXPECT_THAT(ended.out, HasSubstr("CapBnd:\t00000000000003fb"));
  EXPECT_THAT(ended.out, HasSubstr("NoNewPrivs:\t1"));
}

TEST_P(LauncherTest, WhatCannotRunIsSaid) {
  EXPECT_THAT(Run(Basic({"no-such-program"})).error, HasSubstr("executable file not found in $PATH"));
  EXPECT_THAT(Run(Basic({"/no/such"})).error, HasSubstr("no such file or directory"));
  EXPECT_THAT(Run(Basic({"/etc"})).error, HasSubstr("is a directory"));
  Launch launch = Basic({"true"});
  launch.mounts.push_back(Filesystem("/x", "nosuchfs", ""));
  EXPECT_THAT(Run(launch).error, HasSubstr("nosuchfs"));
}

// Nothing of the node's is left below the root; and it is no chroot, in which the kernel makes no user namespaces.
TEST_P(LauncherTest, TheRootIsTheNamespacesRoot) {
  Launch launch = Basic({"sh", "-c",
                         "cut -d' ' -f5 /proc/self/mountinfo | head -1; cut -d' ' -f5 /proc/self/mountinfo | sort | tr "
                         "'\\n' ' '; ls -d /..//usr; unshare -U echo made"});
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.out, testing::StartsWith("/\n/ /dev /dev/pts /proc /usr"));  // the root first, as everywhere
  EXPECT_THAT(ended.out, testing::EndsWith("/..//usr\nmade\n"));
}

// Where the node's /dev is shared, as systemd makes it: what is mounted on a mask or a device inside stays inside.
TEST_P(LauncherTest, NothingInsideIsAPeerOfTheNodes) {
  Launch launch =
      Basic({"sh", "-c", "grep -c -E 'shared:|master:' /proc/self/mountinfo; ls /proc/irq; stat -c %F /dev/null"});
  launch.masked_paths = {"/proc/version", "/proc/irq"};
  launch.devices.push_back({"/dev/zero", S_IFCHR, 1, 5, 0666, 0, 0});
  for (bool makes_devices : {true, false}) {
    std::thread([&] {
      ASSERT_EQ(unshare(CLONE_NEWNS), 0);
      ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
      ASSERT_EQ(mount("/dev", "/dev", nullptr, MS_BIND | MS_REC, nullptr), 0);
      ASSERT_EQ(mount("/usr", "/usr", nullptr, MS_BIND, nullptr), 0);
      ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr), 0);
      cap_t fewer = cap_get_proc();
      cap_value_t mknod = CAP_MKNOD;
      if (!makes_devices) cap_set_flag(fewer, CAP_EFFECTIVE, 1, &mknod, CAP_CLEAR);
      ASSERT_EQ(cap_set_proc(fewer), 0);  // of this thread
      cap_free(fewer);
      Ended ended = Run(launch);
      EXPECT_EQ(ended.error, "");
      EXPECT_EQ(ended.out, "0\ncharacter special file\n");
    }).join();
  }
}

TEST_P(LauncherTest, TargetsMayEndInDots) {
  Launch launch = Basic({"sh", "-c", "grep -c ' /tmp ' /proc/self/mountinfo; ls /etc"});
  launch.mounts.push_back(Filesystem("/etc/../tmp/.", "tmpfs", ""));
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "1\n");
}

TEST_P(LauncherTest, BareMountsThatAreGoneAreDoneWithout) {
  Launch launch = Basic({"echo", "ran"});
  for (const char* file : {"/proc/self/fd/12345", "/proc/self/ns/net"}) {
    launch.bare_mounts = file;
    Ended ended = Run(launch);
    EXPECT_EQ(ended.error, "") << file;
    EXPECT_EQ(ended.out, "ran\n") << file;
  }
}

// A launcher that may make no devices, as in a container itself, binds the node's.
TEST_P(LauncherTest, DevicesThatCannotBeMadeAreTheNodes) {
  cap_t all = cap_get_proc(), fewer = cap_dup(all);
  cap_value_t mknod = CAP_MKNOD;
  cap_set_flag(fewer, CAP_EFFECTIVE, 1, &mknod, CAP_CLEAR);
  ASSERT_EQ(cap_set_proc(fewer), 0);
  Launch launch = Basic(
      {"sh", "-c", "stat -c '%F %t %T' /dev/null; grep -c /dev/null /proc/self/mountinfo; echo > /dev/null; pwd"});
  Ended ended = Run(launch);
  ASSERT_EQ(cap_set_proc(all), 0);
  cap_free(all);
  cap_free(fewer);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "character special file 1 3\n1\n/\n");
}

// What the container's own cgroup forbids to make is bound where the node's is still reached, and else said.
TEST_P(LauncherTest, DevicesThatTheCgroupForbids) {
  const std::string cgroup = StrCat("/sys/fs/cgroup/devices/crisp-launch-", getpid());
  if (!sys::Exists("/sys/fs/cgroup/devices/devices.list")) GTEST_SKIP() << "no cgroup v1 of devices";
  ASSERT_TRUE(sys::MakeDir(cgroup, 0755));
  ASSERT_TRUE(sys::WriteExisting(cgroup + "/devices.deny", "c 1:3 m"));
  Launch launch = Basic({"sh", "-c", "stat -c %F /dev/null"});
  launch.cgroup.v1_dirs = {cgroup};
  Ended ended = Run(launch);
  if (GetParam()) {
    EXPECT_THAT(ended.error, HasSubstr("device /dev/null: mknod: Operation not permitted"));
  } else {
    EXPECT_EQ(ended.out, "character special file\n");
  }
  EXPECT_EQ(rmdir(cgroup.c_str()), 0);
}

// S25, S29: paths of the image that lead out stay inside.
TEST_P(LauncherTest, SymlinksOfTheImageStayInside) {
  std::string victim = dir_ + "/victim";
  ASSERT_TRUE(sys::MakeDir(victim, 0755));
  ASSERT_EQ(symlink(victim.c_str(), (dir_ + "/root/evil").c_str()), 0);
  ASSERT_TRUE(sys::RemoveTree(dir_ + "/root/dev"));
  ASSERT_EQ(symlink(victim.c_str(), (dir_ + "/root/dev").c_str()), 0);
  Launch launch = Basic({"sh", "-c", StrCat("echo hello > /evil/data/file; cat ", victim, "/data/file")});
  launch.mounts.push_back(Filesystem("/evil/data", "tmpfs", ""));
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "hello\n");
  EXPECT_FALSE(sys::Exists(victim + "/data"));
  EXPECT_FALSE(sys::Exists(victim + "/null"));
}

// S28: a /proc that is a link to another place is no place for a procfs.
TEST_P(LauncherTest, ProcBehindASymlinkIsRefused) {
  ASSERT_TRUE(sys::RemoveTree(dir_ + "/root/proc"));
  ASSERT_EQ(symlink("etc", (dir_ + "/root/proc").c_str()), 0);
  EXPECT_THAT(Sh("true").error, HasSubstr("proc"));
}

TEST_P(LauncherTest, Terminal) {
  Launch launch = Basic({"sh", "-c", "tty; stty size; tty < /dev/console"});
  launch.process.terminal = true;
  launch.process.width = 100;
  launch.process.height = 40;
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "/dev/pts/0\r\n40 100\r\n/dev/console\r\n");
}

TEST_P(LauncherTest, CreatedWaitsForItsStart) {
  ASSERT_EQ(mkfifo((dir_ + "/start").c_str(), 0600), 0);
  sys::UniqueFd fifo = *sys::Open(dir_ + "/start", O_RDWR);
  sys::Pipe out = *sys::MakePipe();
  sys::UniqueFd null = *sys::Open("/dev/null", O_RDWR);
  std::string bytes = *Encode(Basic({"echo", "started"}));
  auto launching = Launching::Start(bytes, {.in = null.get(), .out = out.write.get(), .err = out.write.get(), .start_fifo = fifo.get()});
  ASSERT_TRUE(launching);
  ASSERT_TRUE(Await(*launching, Launching::Progress::kCreated));
  ASSERT_EQ(write(fifo.get(), "s", 1), 1);
  Ended ended = Finish(std::move(launching), std::move(out));
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.out, "started\n");
}

TEST_P(LauncherTest, WaitsLateAndNoLongerThanItsLauncherDoes) {
  sys::UniqueFd null = *sys::Open("/dev/null", O_RDWR);
  Launch launch = Basic({"echo", "started"});
  launch.start_container = {Hook{"/bin/sh", {"sh", "-c", "echo hooked > /tmp/hooked"}, {"PATH=/bin:/usr/bin"}, 10}};
  std::string bytes = *Encode(launch);
  for (bool goes : {true, false}) {
    sys::Pipe out = *sys::MakePipe(), go = *sys::MakePipe();
    auto launching = Launching::Start(bytes, {.in = null.get(), .out = out.write.get(), .err = out.write.get(), .start_fifo = go.read.get(), .wait_late = true});
    ASSERT_TRUE(launching);
    go.read.Reset();
    ASSERT_GT(launching->pid(), 0);
    std::string caps;
    while (caps.find("CapEff:\t00000000000003fb") == std::string::npos) {
      Result<std::string> status = sys::ReadFile(StrCat("/proc/", launching->pid(), "/status"));
      ASSERT_TRUE(status);
      caps = *status;
      ASSERT_EQ(caps.find("State:\tZ"), std::string::npos) << "it has ended";
      std::this_thread::yield();
    }
    EXPECT_FALSE(sys::Exists(dir_ + "/root/tmp/hooked"));
    EXPECT_EQ(*launching->Advance(), Launching::Progress::kWorking) << "nobody is told that it waits";
    if (goes) {
      ASSERT_EQ(write(go.write.get(), "+", 1), 1);
    } else {
      go.write.Reset();
    }
    Ended ended = Finish(std::move(launching), std::move(out));
    EXPECT_EQ(ended.error, goes ? "" : "wait for the start: Broken pipe");
    EXPECT_EQ(ended.out, goes ? "started\n" : "");
    EXPECT_EQ(sys::Exists(dir_ + "/root/tmp/hooked"), goes);
    unlink((dir_ + "/root/tmp/hooked").c_str());
  }
}

TEST_P(LauncherTest, HooksInTheirOrder) {
  Launch launch = Basic({"sh", "-c", "echo run >> /tmp/order"});
  std::string order = dir_ + "/root/tmp/order";
  auto hook = [&](const char* name, const std::string& file) {
    return Hook{"/bin/sh", {"sh", "-c", StrCat("echo ", name, " >> ", file, "; cat >> ", file, ".state")}, {"PATH=/bin:/usr/bin"}, 10};
  };
  launch.prestart = {hook("prestart", order)};
  launch.create_runtime = {hook("createRuntime", order)};
  launch.create_container = {hook("createContainer", order)};
  launch.start_container = {hook("startContainer", "/tmp/order")};
  launch.poststart = {hook("poststart", order)};
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  std::string seen = *sys::ReadFile(order);
  EXPECT_THAT(seen, testing::StartsWith("prestart\ncreateRuntime\ncreateContainer\nstartContainer\n"));
  EXPECT_THAT(seen, HasSubstr("poststart\n"));
  EXPECT_THAT(*sys::ReadFile(order + ".state"), HasSubstr("\"id\":\"test\""));
  launch.create_runtime = {{"/bin/sh", {"sh", "-c", "echo it is broken >&2; exit 3"}, {}, 10}};
  ended = Run(launch);
  EXPECT_THAT(ended.error, HasSubstr("createRuntime hook #0"));
  EXPECT_THAT(ended.error, HasSubstr("it is broken"));
}

TEST_P(LauncherTest, NewUserNamespace) {
  ASSERT_TRUE(sys::MakeDir(dir_ + "/data", 0755));
  Launch launch = Basic({"sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u /data; ls -l /dev/null | cut -c1"});
  launch.new_namespaces |= CLONE_NEWUSER;
  launch.uid_map = launch.gid_map = {{0, 100000, 65536}};
  launch.mounts[2].data = "newinstance,ptmxmode=0666,mode=0620";
  Mount data;
  data.target = "/data";
  data.source = dir_ + "/data";
  data.idmap = true;
  launch.mounts.push_back(data);
  // The root of the namespace must be able to make the targets.
  for (const char* sub : {"", "/usr", "/proc", "/dev", "/tmp", "/etc", "/sys"}) ASSERT_EQ(chown(StrCat(dir_, "/root", sub).c_str(), 100000, 100000), 0);
  Ended ended = Run(launch);
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.out, HasSubstr("0\n         0     100000      65536\n0\nc\n"));
}

// Other namespaces and the root of a running container, joined.
TEST_P(LauncherTest, Exec) {
  sys::Pipe out = *sys::MakePipe(), in = *sys::MakePipe();
  sys::UniqueFd null = *sys::Open("/dev/null", O_RDWR);
  std::string bytes = *Encode(Basic({"sh", "-c", "echo up; read line"}));
  auto launching = Launching::Start(bytes, {.in = in.read.get(), .out = out.write.get(), .err = out.write.get()});
  ASSERT_TRUE(launching);
  ASSERT_TRUE(Await(*launching, Launching::Progress::kRunning));
  sys::UniqueFd pidfd = *sys::PidfdOpen(launching->pid());
  ExecLaunch exec;
  exec.namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
  exec.process = Basic({"sh", "-c", "hostname; ps -e -o comm= | sort | head -3; ls /proc/self/fd | wc -l; exit 5"}).process;
  sys::Pipe exec_out = *sys::MakePipe();
  std::string exec_bytes = *Encode(exec);
  auto execing = Launching::StartExec(exec_bytes, pidfd, {.in = null.get(), .out = exec_out.write.get(), .err = exec_out.write.get()});
  Ended ended = Finish(std::move(execing), std::move(exec_out));
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.out, testing::StartsWith("inside\n"));
  EXPECT_THAT(ended.out, testing::EndsWith("4\n"));
  // Our own children are born where we are.
  pid_t child = fork();
  if (child == 0) _exit(getpid() == 1 ? 1 : 0);
  int signal;
  EXPECT_EQ(Wait(child, &signal), 0);
  in.write.Reset();
  in.read.Reset();
  Ended container = Finish(std::move(launching), std::move(out));
  EXPECT_EQ(container.out, "up\n");
}

}  // namespace
}  // namespace crisp::native
