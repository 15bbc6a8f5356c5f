#include "native/compile.h"

#include <linux/sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <algorithm>

#include <filesystem>

#include "native/compile_parts.h"

namespace crisp::native {

Result<Node> Node::Member(const char* key) const {
  TRY(CheckObject());
  std::string path = path_.empty() ? key : StrCat(path_, ".", key);
  if (!there()) return Node(nullptr, path);
  auto found = json_->find(key);
  return Node(found == json_->end() ? nullptr : &*found, path);
}

Result<std::vector<Node>> Node::Items(const char* key) const {
  std::vector<Node> items;
  Node list = TRY(Member(key));
  if (!list.there()) return items;
  if (!list.json_->is_array()) return list.Wrong("is not a list");
  for (size_t i = 0; i < list.json_->size(); ++i)
    items.emplace_back(&(*list.json_)[i], StrCat(list.path_, "[", i, "]"));
  return items;
}

Result<uint32_t> GetUint32(const Node& node, const char* key, uint32_t fallback) {
  uint64_t value = TRY(node.Get<uint64_t>(key, fallback));
  if (value > UINT32_MAX) return node.Wrong(StrCat(key, " ", value, " is too large"));
  return static_cast<uint32_t>(value);
}

Result<int32_t> GetInt32(const Node& node, const char* key) {
  int64_t value = TRY(node.Get<int64_t>(key));
  if (value < INT32_MIN || value > INT32_MAX) return node.Wrong(StrCat(key, " ", value, " is too large"));
  return static_cast<int32_t>(value);
}

std::string CleanPath(const std::string& path) {
  std::string clean = std::filesystem::path("/" + path).lexically_normal().string();
  size_t start = clean.find_first_not_of('/');
  if (start == std::string::npos) return "/";
  size_t end = clean.find_last_not_of('/');
  return "/" + clean.substr(start, end - start + 1);
}

namespace {

constexpr JsonLimits kLimits{.bytes_max = 8u << 20, .depth_max = 32};
constexpr size_t kHooksMax = 256;

Result<std::vector<Hook>> HookList(const Node& all, const char* kind) {
  std::vector<Hook> hooks;
  for (const Node& node : TRY(all.Items(kind))) {
    Hook hook;
    hook.path = TRY(node.Get<std::string>("path"));
    if (!hook.path.starts_with('/')) return node.Wrong("path is not absolute");
    hook.args = TRY(node.Get<std::vector<std::string>>("args"));
    hook.env = TRY(node.Get<std::vector<std::string>>("env"));
    if (TRY(node.Member("timeout")).there()) {
      int32_t timeout = TRY(GetInt32(node, "timeout"));
      if (timeout <= 0) return node.Wrong(StrCat("timeout ", timeout, " is not greater than zero"));
      hook.timeout_seconds = static_cast<uint32_t>(timeout);
    }
    hooks.push_back(std::move(hook));
    if (hooks.size() > kHooksMax) return all.Wrong(StrCat("more than ", kHooksMax, " ", kind));
  }
  return hooks;
}

Result<std::vector<std::string>> InsidePaths(const Node& linux_node, const char* key) {
  std::vector<std::string> paths = TRY(linux_node.Get<std::vector<std::string>>(key));
  for (const std::string& path : paths) {
    if (!path.starts_with('/')) return linux_node.Wrong(StrCat(key, ": ", Quote(path), " is not absolute"));
  }
  return paths;
}

Result<uint64_t> RootPropagation(const Node& linux_node) {
  std::string name = TRY(linux_node.Get<std::string>("rootfsPropagation"));
  if (name.empty()) return 0;
  bool recursive = name.starts_with('r');
  std::string_view kind = std::string_view(name).substr(recursive ? 1 : 0);
  uint64_t flags = kind == "shared"       ? MS_SHARED
                   : kind == "slave"      ? MS_SLAVE
                   : kind == "private"    ? MS_PRIVATE
                   : kind == "unbindable" ? MS_UNBINDABLE
                                          : 0;
  if (flags == 0) return linux_node.Wrong(StrCat("rootfsPropagation ", Quote(name)));
  return flags | MS_REC;
}

Result<> CompileRoot(const Node& config, const CompileInput& input, Launch& out) {
  Node root = TRY(config.Member("root"));
  std::string path = TRY(root.Get<std::string>("path"));
  if (path.empty()) return root.Wrong("no path");
  out.rootfs = path.starts_with('/') ? path : StrCat(input.bundle, "/", path);
  out.rootfs_read_only = TRY(root.Get<bool>("readonly"));
  return {};
}

// The names are those of the node where they are not the container's own.
Result<> CompileNames(const Node& config, Launch& out) {
  out.hostname = TRY(config.Get<std::string>("hostname"));
  out.domainname = TRY(config.Get<std::string>("domainname"));
  if (HasNamespace(out, CLONE_NEWUTS)) return {};
  if (!out.hostname.empty()) return Error(Code::kInvalidArgument, "hostname: without a uts namespace of its own");
  if (!out.domainname.empty()) return Error(Code::kInvalidArgument, "domainname: without a uts namespace of its own");
  return {};
}

Result<> CompileAnnotations(const Node& config, Launch& out) {
  Node annotations = TRY(config.Member("annotations"));
  if (!annotations.there()) return {};
  if (!annotations.json().is_object()) return annotations.Wrong("is not an object");
  for (const auto& [key, value] : annotations.json().items()) {
    if (!value.is_string()) return annotations.Wrong(StrCat(Quote(key), " is not a string"));
  }
  out.annotations = DumpJson(annotations.json());
  return {};
}

Result<> RefuseWhatIsNotThere(const Node& config, const Node& linux_node) {
  for (const char* other : {"solaris", "windows", "vm", "zos", "freebsd"}) {
    Node member = TRY(config.Member(other));
    if (member.there() && !member.json().empty()) return member.Unsupported("another platform's");
  }
  for (const char* part : {"intelRdt", "netDevices"}) {
    Node member = TRY(linux_node.Member(part));
    if (member.there() && !member.json().empty()) return member.Unsupported("not supported by the native handler");
  }
  return {};
}

Result<Launch> CompileConfig(const Node& config, const CompileInput& input) {
  Launch out;
  out.id = input.id;
  out.bundle = input.bundle;
  out.cgroup = input.cgroup;
  out.oci_version = TRY(config.Get<std::string>("ociVersion"));
  if (out.oci_version.empty()) return Error(Code::kInvalidArgument, "ociVersion: missing");
  TRY(CompileAnnotations(config, out));
  Node linux_node = TRY(config.Member("linux"));
  TRY(RefuseWhatIsNotThere(config, linux_node));
  TRY(CompileRoot(config, input, out));
  TRY(CompileNamespaces(linux_node, out));
  out.rootfs_propagation = TRY(RootPropagation(linux_node));
  TRY(CompileNames(config, out));
  TRY(CompileMounts(config, input, out));
  TRY(CompileDevices(linux_node, out));
  TRY(CompileSysctls(linux_node, out));
  out.masked_paths = TRY(InsidePaths(linux_node, "maskedPaths"));
  out.read_only_paths = TRY(InsidePaths(linux_node, "readonlyPaths"));
  TRY(CompileHooks(config, out));
  Node process = TRY(config.Member("process"));
  if (!process.there()) return process.Wrong("missing");
  TRY(CompileProcess(process, ProcessRole::kInit, out.process));
  TRY(CompileExecution(linux_node, out.process));
  Node seccomp = TRY(linux_node.Member("seccomp"));
  if (seccomp.there()) out.process.seccomp = TRY(CompileSeccomp(DumpJson(seccomp.json())));
  return out;
}

}  // namespace

Result<> CompileHooks(const Node& config, Launch& out) {
  Node hooks = TRY(config.Member("hooks"));
  out.prestart = TRY(HookList(hooks, "prestart"));
  out.create_runtime = TRY(HookList(hooks, "createRuntime"));
  out.create_container = TRY(HookList(hooks, "createContainer"));
  out.start_container = TRY(HookList(hooks, "startContainer"));
  out.poststart = TRY(HookList(hooks, "poststart"));
  TRY(HookList(hooks, "poststop"));  // whoever deletes the container runs them: PoststopHooks
  return {};
}

Result<std::vector<Hook>> PoststopHooks(std::string_view config_json) {
  return PoststopHooksOf(TRY(ParseJson(config_json, "config.json", kLimits)));
}

Result<std::vector<Hook>> PoststopHooksOf(const Json& config) {
  Node hooks = TRY(Node(&config, "").Member("hooks"));
  return HookList(hooks, "poststop");
}

Result<Launch> Compile(const CompileInput& input) {
  return Compile(TRY(ParseJson(input.config_json, "config.json", kLimits)), input);
}

Result<Launch> Compile(const Json& config, const CompileInput& input) {
  if (!config.is_object()) return Error(Code::kInvalidArgument, "config.json is not an object");
  return CompileConfig(Node(&config, ""), input);
}

namespace {
// linux.seccomp, personality and memoryPolicy are the container's, not a process's.
void CopyShared(const Process& from, Process& to) {
  to.seccomp = from.seccomp;
  to.personality = from.personality;
  to.memory_policy = from.memory_policy;
  to.memory_nodes = from.memory_nodes;
}
}  // namespace

ExecLaunch ExecTemplate(const Launch& launch) {
  ExecLaunch exec;
  exec.namespaces = launch.new_namespaces;
  for (const JoinNamespace& join : launch.join) exec.namespaces |= join.type;
  CopyShared(launch.process, exec.process);
  return exec;
}

Result<ExecLaunch> ExecTemplate(const Launch& launch, const Json& config) {
  ExecLaunch exec = ExecTemplate(launch);
  Process process;
  Node node = TRY(Node(&config, "").Member("process"));
  TRY(CompileProcess(node, ProcessRole::kFurther, process));
  CopyShared(exec.process, process);
  exec.process = std::move(process);
  return exec;
}

namespace {
Result<> CheckListener(const ExecLaunch& launch) {
  if (launch.process.seccomp.listener_path.empty()) return {};
  return Error(Code::kUnimplemented, "linux.seccomp.listenerPath: not for a further process");
}
}  // namespace

Result<ExecLaunch> WithCommand(const ExecLaunch& container, const CommandInput& input) {
  TRY(CheckListener(container));
  ExecLaunch out = container;
  out.cgroup = input.cgroup;
  out.process.args = input.command;
  out.process.terminal = input.terminal;
  out.process.width = out.process.height = 0;
  std::vector<std::string>& env = out.process.env;
  auto is_term = [](const std::string& each) { return each.starts_with("TERM="); };
  if (input.terminal && std::none_of(env.begin(), env.end(), is_term)) env.push_back("TERM=xterm");
  return out;
}

Result<ExecLaunch> CompileExec(const ExecInput& input) {
  Json json = TRY(ParseJson(input.process_json, "process", kLimits));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "process is not an object");
  ExecLaunch out;
  out.cgroup = input.cgroup;
  out.namespaces = input.container.namespaces;
  TRY(CompileProcess(Node(&json, "process"), ProcessRole::kFurther, out.process));
  CopyShared(input.container.process, out.process);
  TRY(CheckListener(out));
  return out;
}

}  // namespace crisp::native
