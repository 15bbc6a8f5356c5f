// floor: what the kernel alone charges for a pod with one container, so that a runtime's figures have something to be
// compared with in the same run. No runtime, no daemon, no JSON: only the calls that a pod of one container on a bridge
// network cannot do without. Prints JSON: milliseconds, p50 and p99, of start, exec and end, then whole lives (a start,
// three execs, an end) per second, one at a time and eight in parallel.
//
// Start: a network namespace and a veth pair with its host end in the bridge; directories and an overlay; a cgroup of
// the container's own in every hierarchy that a container gets one in; one clone into namespaces, which joins the
// cgroup, makes the mounts that any container has, changes its root and executes a program: until that runs. The cgroup
// is joined in the cheapest way there is: on v2 by CLONE_INTO_CGROUP, on v1 by each hierarchy's "tasks" (one thread,
// without the lock over all processes that cgroup.procs takes: it waits up to milliseconds for the kernel's RCU). The
// v2 tree of a hybrid machine has no controller and is left alone. The directories lie apart on the disk (chattr +T of
// their parent), else ext4 searches past what was deleted lately. Exec: a clone that joins the container's namespaces and
// cgroup and executes /bin/true, until its output's end was read and it is reaped. End: SIGKILL, reaping the process,
// removing the cgroup; the kernel removes the rest in its own time.
//
//   floor --bridge BRIDGE --lower DIR --scratch DIR [--cgroup NAME] [--lives N]
// Run it in a network namespace that has the bridge (bench/run does); DIR is an unpacked image with /bin/true.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  _exit(1);
}

// One rtnetlink request, built on the stack.
class Request {
 public:
  Request(uint16_t type, uint16_t flags) {
    header_.n.nlmsg_len = NLMSG_LENGTH(sizeof(ifinfomsg));
    header_.n.nlmsg_type = type;
    header_.n.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  }
  ifinfomsg* link() { return &header_.i; }
  rtattr* Begin(uint16_t type) { return Add(type, nullptr, 0); }
  void End(rtattr* attribute) {
    attribute->rta_len = static_cast<uint16_t>(Tail() - reinterpret_cast<char*>(attribute));
  }
  rtattr* Add(uint16_t type, const void* data, size_t size) {
    auto* attribute = reinterpret_cast<rtattr*>(Tail());
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    if (size > 0) std::memcpy(RTA_DATA(attribute), data, size);
    header_.n.nlmsg_len = NLMSG_ALIGN(header_.n.nlmsg_len) + static_cast<uint32_t>(RTA_ALIGN(attribute->rta_len));
    return attribute;
  }
  rtattr* AddText(uint16_t type, const std::string& text) { return Add(type, text.c_str(), text.size() + 1); }
  void* AppendRaw(size_t size) {
    char* at = Tail();
    header_.n.nlmsg_len += static_cast<uint32_t>(size);
    return at;
  }
  void Send(int socket) {
    if (send(socket, &header_, header_.n.nlmsg_len, 0) < 0) Die("netlink send");
    char reply[4096];
    ssize_t n = recv(socket, reply, sizeof reply, 0);
    auto* answer = reinterpret_cast<nlmsghdr*>(reply);
    if (n < static_cast<ssize_t>(sizeof(nlmsghdr)) || answer->nlmsg_type != NLMSG_ERROR) Die("netlink recv");
    const auto* error = reinterpret_cast<const nlmsgerr*>(reply + NLMSG_HDRLEN);
    errno = -error->error;
    if (errno != 0) Die("netlink");
  }

 private:
  char* Tail() { return reinterpret_cast<char*>(&header_) + NLMSG_ALIGN(header_.n.nlmsg_len); }
  struct {
    nlmsghdr n;
    ifinfomsg i;
    char attributes[1024];
  } header_{};
};

struct Place {
  std::string bridge, lower, scratch, cgroup = "crisp-floor";
  std::vector<std::string> v1;  // mount points
  std::string v2;               // "" unless it is the only one
  int netlink = -1;
  int own_pidns = -1;
  unsigned bridge_index = 0;
};

struct Pod {
  int netns = -1;
  pid_t pid = 0;
  int pidfd = -1;
  std::string directory, cgroup;  // the latter below each hierarchy
};

int NewNetns() {
  int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (unshare(CLONE_NEWNET) != 0) Die("unshare");
  int made = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  setns(own, CLONE_NEWNET);
  close(own);
  return made;
}

void AttachVeth(Place& place, const std::string& name, int netns) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  request.link()->ifi_flags = IFF_UP;
  request.link()->ifi_change = IFF_UP;
  request.AddText(IFLA_IFNAME, name);
  request.Add(IFLA_MASTER, &place.bridge_index, sizeof place.bridge_index);
  rtattr* info = request.Begin(IFLA_LINKINFO);
  request.AddText(IFLA_INFO_KIND, "veth");
  rtattr* data = request.Begin(IFLA_INFO_DATA);
  rtattr* peer = request.Begin(VETH_INFO_PEER);
  std::memset(request.AppendRaw(sizeof(ifinfomsg)), 0, sizeof(ifinfomsg));
  request.AddText(IFLA_IFNAME, "eth0");
  request.Add(IFLA_NET_NS_FD, &netns, sizeof netns);
  request.End(peer);
  request.End(data);
  request.End(info);
  request.Send(place.netlink);
}

// On v1 a new cpuset is empty, and then nobody can join.
void CopyCpuset(const std::string& from, const std::string& to) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    int in = open((from + file).c_str(), O_RDONLY | O_CLOEXEC);
    if (in < 0) return;
    char value[256];
    ssize_t n = read(in, value, sizeof value);
    close(in);
    int out = open((to + file).c_str(), O_WRONLY | O_CLOEXEC);
    if (n <= 0 || out < 0 || write(out, value, static_cast<size_t>(n)) != n) Die("cpuset");
    close(out);
  }
}

void MakeCgroup(const Place& place, const std::string& cgroup) {
  for (const std::string& hierarchy : place.v1) {
    if (mkdir((hierarchy + cgroup).c_str(), 0755) != 0) Die("make a cgroup");
    CopyCpuset(hierarchy + cgroup.substr(0, cgroup.rfind('/')), hierarchy + cgroup);
  }
  if (!place.v2.empty() && mkdir((place.v2 + cgroup).c_str(), 0755) != 0) Die("make a cgroup");
}

// False: it is busy, for a moment longer than its last process can be waited for. Then it stays for the end of the run.
bool RemoveCgroup(const Place& place, const std::string& cgroup) {
  bool gone = true;
  auto remove = [&](const std::string& mount) { gone &= rmdir((mount + cgroup).c_str()) == 0 || errno == ENOENT; };
  for (const std::string& hierarchy : place.v1) remove(hierarchy);
  if (!place.v2.empty()) remove(place.v2);
  return gone;
}

// The container's process: cgroups, mounts, pivot_root, exec. Runs in the clone; no allocation after it began.
int Child(const Pod& pod, const Place& place, int ready) {
  if (setns(pod.netns, CLONE_NEWNET) != 0) Die("setns");
  for (const std::string& hierarchy : place.v1) {
    int fd = open((hierarchy + pod.cgroup + "/tasks").c_str(), O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1) Die("join a cgroup");  // "0": who writes
    close(fd);
  }
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Die("private");
  std::string root = pod.directory + "/root";
  std::string options =
      "lowerdir=" + place.lower + ",upperdir=" + pod.directory + "/upper,workdir=" + pod.directory + "/work,volatile";
  if (mount("overlay", root.c_str(), "overlay", 0, options.c_str()) != 0) Die("overlay");
  if (chdir(root.c_str()) != 0) Die("chdir");
  mkdir("proc", 0755);
  mkdir("dev", 0755);
  mkdir("sys", 0755);
  if (mount("proc", "proc", "proc", 0, nullptr) != 0) Die("proc");
  if (mount("tmpfs", "dev", "tmpfs", 0, "size=64k") != 0) Die("dev");
  mkdir("dev/pts", 0755);
  mkdir("dev/shm", 0755);
  if (mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666") != 0) Die("devpts");
  if (mount("shm", "dev/shm", "tmpfs", 0, nullptr) != 0) Die("shm");
  if (mount("sysfs", "sys", "sysfs", MS_RDONLY, nullptr) != 0) Die("sysfs");
  if (syscall(SYS_pivot_root, ".", ".") != 0) Die("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) Die("umount");
  if (chdir("/") != 0) Die("chdir /");
  if (write(ready, "x", 1) != 1) Die("ready");
  execl("/bin/sleep", "sleep", "1000", nullptr);
  Die("exec");
}

// On v2 the clone is born in its cgroup, by the descriptor that is returned; -1: on v1 it joins by itself.
int BirthCgroup(const Place& place, const Pod& pod, clone_args& arguments) {
  if (place.v2.empty()) return -1;
  int fd = open((place.v2 + pod.cgroup).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) Die("open the cgroup");
  arguments.flags |= CLONE_INTO_CGROUP;
  arguments.cgroup = static_cast<uint64_t>(fd);
  return fd;
}

Pod Start(Place& place, int number) {
  Pod pod;
  pod.directory = place.scratch + "/" + std::to_string(number);
  mkdir(pod.directory.c_str(), 0700);
  for (const char* sub : {"/root", "/upper", "/work"}) mkdir((pod.directory + sub).c_str(), 0755);
  pod.netns = NewNetns();
  AttachVeth(place, "fl" + std::to_string(number), pod.netns);
  pod.cgroup = "/" + place.cgroup + "/" + std::to_string(number);
  MakeCgroup(place, pod.cgroup);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe");
  clone_args arguments{};
  arguments.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pod.pidfd);
  arguments.exit_signal = SIGCHLD;
  const int v2 = BirthCgroup(place, pod, arguments);
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) Die("clone3");
  if (pid == 0) _exit(Child(pod, place, ends[1]));
  pod.pid = static_cast<pid_t>(pid);
  if (v2 >= 0) close(v2);
  close(ends[1]);
  char byte;
  if (read(ends[0], &byte, 1) != 1) Die("the container did not start");
  char end_of_file;
  [[maybe_unused]] ssize_t closed = read(ends[0], &end_of_file, 1);  // exec has happened: the pipe was close-on-exec
  close(ends[0]);
  return pod;
}

// The exec's process. Only the PID namespace has to be joined by its parent.
int ExecChild(const Pod& pod, const Place& place, int output) {
  for (const std::string& hierarchy : place.v1) {
    int fd = open((hierarchy + pod.cgroup + "/tasks").c_str(), O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1) Die("join a cgroup");
    close(fd);
  }
  if (setns(pod.pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) Die("setns");
  if (dup2(output, 1) != 1 || dup2(output, 2) != 2) Die("dup2");
  execl("/bin/true", "true", nullptr);
  Die("exec");
}

void Exec(const Place& place, const Pod& pod) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe");
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  const int v2 = BirthCgroup(place, pod, arguments);
  if (setns(pod.pidfd, CLONE_NEWPID) != 0) Die("setns");
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) Die("clone3");
  if (pid == 0) _exit(ExecChild(pod, place, ends[1]));
  if (setns(place.own_pidns, CLONE_NEWPID) != 0) Die("setns back");
  if (v2 >= 0) close(v2);
  close(ends[1]);
  char byte;
  if (read(ends[0], &byte, 1) != 0) Die("the exec's output");
  close(ends[0]);
  int status = 0;
  if (waitpid(static_cast<pid_t>(pid), &status, 0) < 0 || status != 0) Die("exec");
}

void End(const Place& place, const Pod& pod) {
  syscall(SYS_pidfd_send_signal, pod.pidfd, SIGKILL, nullptr, 0);
  waitpid(pod.pid, nullptr, 0);
  RemoveCgroup(place, pod.cgroup);
  close(pod.pidfd);
  close(pod.netns);  // the kernel removes the veth with the namespace, in its own time
}

constexpr int kExecsPerLife = 3;
constexpr int kParallel = 8;

void Live(Place& place, int number) {
  Pod pod = Start(place, number);
  for (int i = 0; i < kExecsPerLife; ++i) Exec(place, pod);
  End(place, pod);
}

double Since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void Print(const char* name, std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  auto at = [&](double q) {
    return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
  };
  std::printf("\"%s\":{\"n\":%zu,\"min\":%.3f,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}", name, values.size(),
              values.front(), at(0.5), at(0.99), values.back());
}

// Whole lives, numbered from `first`, by so many processes at a time; how many per second.
double LivesPerSecond(Place& place, int first, int lives, int workers) {
  void* memory = mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Die("mmap");
  auto* next = new (memory) std::atomic<int>(0);
  auto begin = Clock::now();
  for (int w = 0; w < workers; ++w) {
    if (pid_t pid = fork(); pid < 0) {
      Die("fork");
    } else if (pid == 0) {
      place.netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
      if (place.netlink < 0) Die("netlink");
      for (int i = (*next)++; i < lives; i = (*next)++) Live(place, first + i);
      _exit(0);
    }
  }
  for (int w = 0; w < workers; ++w) {
    int status = 0;
    if (wait(&status) < 0 || status != 0) Die("a worker");
  }
  return lives / (Since(begin) / 1000);
}

}  // namespace

int main(int argc, char** argv) {
  Place place;
  int lives = 50;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string key = argv[i], value = argv[i + 1];
    if (key == "--bridge") place.bridge = value;
    if (key == "--lower") place.lower = value;
    if (key == "--scratch") place.scratch = value;
    if (key == "--cgroup") place.cgroup = value;
    if (key == "--lives") lives = std::atoi(value.c_str());
  }
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const bool v2 = line.find(" - cgroup2 ") != std::string::npos;
    if (!v2 && line.find(" - cgroup ") == std::string::npos) continue;
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) words >> word;
    if (v2) {
      place.v2 = word;
    } else if (std::find(place.v1.begin(), place.v1.end(), word) == place.v1.end()) {
      place.v1.push_back(word);
    }
  }
  if (!place.v1.empty()) place.v2.clear();
  MakeCgroup(place, "/" + place.cgroup);
  if (int fd = open(place.scratch.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
      flags |= FS_TOPDIR_FL;
      ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    close(fd);
  }
  place.bridge_index = if_nametoindex(place.bridge.c_str());
  place.netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (place.bridge_index == 0 || place.netlink < 0) Die("bridge");
  place.own_pidns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  std::vector<double> start, exec, end;
  for (int i = -1; i < lives; ++i) {
    auto begin = Clock::now();
    Pod pod = Start(place, i + 1);
    double started = Since(begin);
    for (int e = 0; e < kExecsPerLife; ++e) {
      begin = Clock::now();
      Exec(place, pod);
      if (i >= 0) exec.push_back(Since(begin));
    }
    begin = Clock::now();
    End(place, pod);
    if (i >= 0) {
      start.push_back(started);
      end.push_back(Since(begin));
    }
  }
  const int rounds = std::max(lives, kParallel);
  const double one = LivesPerSecond(place, lives + 1, rounds, 1);
  const double parallel = LivesPerSecond(place, lives + rounds + 1, rounds, kParallel);
  for (int i = 0; i <= lives + 2 * rounds; ++i) {
    for (int tries = 0; !RemoveCgroup(place, "/" + place.cgroup + "/" + std::to_string(i)) && tries < 1000; ++tries) {
      usleep(1000);
    }
  }
  RemoveCgroup(place, "/" + place.cgroup);
  std::printf("{");
  Print("pod start", start);
  std::printf(",");
  Print("exec", exec);
  std::printf(",");
  Print("pod end", end);
  std::printf(",\"lives per second\":{\"1\":%.2f,\"%d\":%.2f}}\n", one, kParallel, parallel);
  return 0;
}
