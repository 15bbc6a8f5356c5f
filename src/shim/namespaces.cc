#include "shim/namespaces.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "shim/pod_init.h"
#include "sys/file.h"

namespace crisp::shim {

Result<std::string> SysctlFile(const std::string& name, bool own_net, bool own_ipc) {
  std::string_view text = name;
  bool characters_ok = !text.empty() && text.front() != '.' && text.back() != '.' &&
                       text.find("..") == std::string_view::npos && text.find('/') == std::string_view::npos &&
                       text.find('\0') == std::string_view::npos;
  bool net = text.starts_with("net.") && own_net;
  bool ipc = (text.starts_with("kernel.shm") || text.starts_with("kernel.msg") || text == "kernel.sem" ||
              text.starts_with("fs.mqueue.")) &&
             own_ipc;
  if (!characters_ok || !(net || ipc)) {
    return Error(Code::kInvalidArgument, StrCat("sysctl ", Quote(name), " is not one of the pod's own namespaces"));
  }
  std::string file = name;
  for (char& c : file) {
    if (c == '.') c = '/';
  }
  return file;
}

namespace {

Result<sys::UniqueFd> OwnNamespace(const char* kind) { return sys::Open(StrCat("/proc/self/ns/", kind), O_RDONLY); }

Result<> Enter(sys::BorrowedFd ns, int type, const char* kind) {
  if (setns(ns.get(), type) != 0) return Errno(errno, StrCat("setns ", kind));
  return {};
}

}  // namespace

// The descriptors of the message in the order of shimapi::SetupPod.
Result<> Namespaces::Take(const shimapi::SetupPod& request, std::vector<sys::UniqueFd> fds) {
  std::vector<sys::UniqueFd*> places;
  if (!request.netns_path.empty()) places.push_back(&net_);
  if (request.userns) places.push_back(&user_);
  if (request.userns && request.own_ipc) places.push_back(&ipc_);
  if (request.userns && request.own_uts) places.push_back(&uts_);
  if (fds.size() != places.size())
    return Error(Code::kInvalidArgument, StrCat(fds.size(), " descriptors of namespaces"));
  for (size_t i = 0; i < fds.size(); ++i) *places[i] = std::move(fds[i]);
  return {};
}

Result<> Namespaces::MakeInside(const shimapi::SetupPod& request, Children& children) {
  bool own_net = net_.ok();
  if (own_net) TRY(Enter(net_, CLONE_NEWNET, "net"));
  if (request.userns) {
    if (ipc_.ok()) TRY(Enter(ipc_, CLONE_NEWIPC, "ipc"));
    if (uts_.ok()) TRY(Enter(uts_, CLONE_NEWUTS, "uts"));
  } else {
    int flags = (request.own_ipc ? CLONE_NEWIPC : 0) | (request.own_uts ? CLONE_NEWUTS : 0);
    if (flags != 0 && unshare(flags) != 0) return Errno(errno, "unshare");
    if (request.own_ipc) ipc_ = TRY(OwnNamespace("ipc"));
    if (request.own_uts) uts_ = TRY(OwnNamespace("uts"));
  }
  if (request.own_uts && !request.hostname.empty() &&
      sethostname(request.hostname.data(), request.hostname.size()) != 0) {
    return Errno(errno, "set host name " + Quote(request.hostname));
  }
  for (const shimapi::Sysctl& sysctl : request.sysctls) {
    std::string file = TRY(SysctlFile(sysctl.name, own_net, request.own_ipc));
    TRY(sys::WriteExisting("/proc/sys/" + file, sysctl.value), "sysctl " + sysctl.name);
  }
  return request.shared_pid ? StartInit(request.empty_mounts, children) : Result<>();
}

Result<> Namespaces::SetUp(const shimapi::SetupPod& request, std::vector<sys::UniqueFd> fds, Children& children) {
  if (set_up_) return Error(Code::kFailedPrecondition, "the pod is set up already");
  sys::UniqueFd node_net = TRY(OwnNamespace("net")), node_ipc = TRY(OwnNamespace("ipc")),
                node_uts = TRY(OwnNamespace("uts"));
  Result<> made = Take(request, std::move(fds));
  if (made) made = MakeInside(request, children);
  bool own_net = net_.ok();
  net_.Reset();
  // A shim that cannot get back would start runtimes in the wrong namespaces: the caller ends it on this error.
  TRY(Enter(node_net, CLONE_NEWNET, "net"));
  TRY(Enter(node_ipc, CLONE_NEWIPC, "ipc"));
  TRY(Enter(node_uts, CLONE_NEWUTS, "uts"));
  if (!made) {
    user_.Reset();
    ipc_.Reset();
    uts_.Reset();
    return made;
  }
  if (own_net) net_path_ = request.netns_path;
  set_up_ = true;
  return {};
}

Result<> Namespaces::StartInit(const std::string& empty_mounts, Children& children) {
  // Who made it may be gone: the init does without.
  Result<sys::UniqueFd> mounts = sys::Open(empty_mounts, O_RDONLY | O_NONBLOCK);
  init_pid_ = TRY(StartPodInit(user_, mounts ? mounts->borrow() : sys::BorrowedFd(-1)));
  children.Add(init_pid_, [this](sys::ExitStatus status) {
    LogInfo("the pod's init has ended", {{"code", status.code}});
    init_pid_ = 0;
    init_ended_ = true;
  });
  return {};
}

void Namespaces::KillInit() {
  if (init_pid_ > 0) kill(init_pid_, SIGKILL);  // not reaped yet, so the number is still its
}

void Namespaces::FillIn(shimapi::HelloReply& reply) const {
  reply.set_up = set_up_;
  reply.net = net_path_;
  if (user_.ok()) reply.user = StrCat("/proc/", getpid(), "/fd/", user_.get());
  if (ipc_.ok()) reply.ipc = StrCat("/proc/", getpid(), "/fd/", ipc_.get());
  if (uts_.ok()) reply.uts = StrCat("/proc/", getpid(), "/fd/", uts_.get());
  if (init_pid_ > 0) reply.pid = StrCat("/proc/", init_pid_, "/ns/pid");
}

}  // namespace crisp::shim
