#include "native/compile.h"

#include <linux/sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "native/compile_parts.h"

namespace crisp::native {

Result<Node> Node::Member(const char* key) const {
  TRY(CheckObject());
  std::string path = path_.empty() ? key : StrCat(path_, ".", key);
  if (!there()) return Node(nullptr, path);
  auto found = json_->find(key);
  return Node(found == json_->end() ? nullptr : &*found, path);
}

Result<std::vector<Node>> Node::Items() const {
  std::vector<Node> items;
  if (!there()) return items;
  if (!json_->is_array()) return Wrong("is not a list");
  for (size_t i = 0; i < json_->size(); ++i) items.emplace_back(&(*json_)[i], StrCat(path_, "[", i, "]"));
  return items;
}

Result<uint32_t> GetUint32(const Node& node, const char* key, uint32_t fallback) {
  uint64_t value = TRY(node.Get<uint64_t>(key, fallback));
  if (value > UINT32_MAX) return node.Wrong(StrCat(key, " ", value, " is too large"));
  return static_cast<uint32_t>(value);
}

namespace {

constexpr JsonLimits kLimits{.bytes_max = 8u << 20, .depth_max = 32};
constexpr size_t kHooksMax = 256;

Result<std::vector<Hook>> HookList(const Node& list) {
  std::vector<Hook> hooks;
  for (const Node& node : TRY(list.Items())) {
    Hook hook;
    hook.path = TRY(node.Get<std::string>("path"));
    if (!hook.path.starts_with('/')) return node.Wrong("path is not absolute");
    hook.args = TRY(node.Get<std::vector<std::string>>("args"));
    hook.env = TRY(node.Get<std::vector<std::string>>("env"));
    int64_t timeout = TRY(node.Get<int64_t>("timeout"));
    if (timeout < 0 || timeout > UINT32_MAX) return node.Wrong("timeout must be greater than zero");
    hook.timeout_seconds = static_cast<uint32_t>(timeout);
    hooks.push_back(std::move(hook));
    if (hooks.size() > kHooksMax) return list.Wrong("too many hooks");
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
  uint64_t flags = kind == "shared" ? MS_SHARED : kind == "slave" ? MS_SLAVE : kind == "private" ? MS_PRIVATE
                   : kind == "unbindable" ? MS_UNBINDABLE : 0;
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
  Node annotations = TRY(config.Member("annotations"));
  if (annotations.there()) out.annotations = DumpJson(annotations.json());
  Node linux_node = TRY(config.Member("linux"));
  TRY(RefuseWhatIsNotThere(config, linux_node));
  TRY(CompileRoot(config, input, out));
  TRY(CompileNamespaces(linux_node, out));
  out.rootfs_propagation = TRY(RootPropagation(linux_node));
  out.hostname = TRY(config.Get<std::string>("hostname"));
  out.domainname = TRY(config.Get<std::string>("domainname"));
  TRY(CompileMounts(config, input, out));
  TRY(CompileDevices(linux_node, out));
  TRY(CompileSysctls(linux_node, out));
  out.masked_paths = TRY(InsidePaths(linux_node, "maskedPaths"));
  out.read_only_paths = TRY(InsidePaths(linux_node, "readonlyPaths"));
  TRY(CompileHooks(config, out));
  Node process = TRY(config.Member("process"));
  if (process.there()) TRY(CompileProcess(process, out.process));
  std::string personality = TRY(TRY(linux_node.Member("personality")).Get<std::string>("domain"));
  if (personality == "LINUX") {
    out.process.personality = 0;
  } else if (personality == "LINUX32") {
    out.process.personality = 8;
  } else if (!personality.empty()) {
    return linux_node.Wrong(StrCat("personality.domain ", Quote(personality)));
  }
  Node seccomp = TRY(linux_node.Member("seccomp"));
  if (seccomp.there()) out.process.seccomp = TRY(CompileSeccomp(DumpJson(seccomp.json())));
  return out;
}

}  // namespace

Result<> CompileHooks(const Node& config, Launch& out) {
  Node hooks = TRY(config.Member("hooks"));
  out.prestart = TRY(HookList(TRY(hooks.Member("prestart"))));
  out.create_runtime = TRY(HookList(TRY(hooks.Member("createRuntime"))));
  out.create_container = TRY(HookList(TRY(hooks.Member("createContainer"))));
  out.start_container = TRY(HookList(TRY(hooks.Member("startContainer"))));
  out.poststart = TRY(HookList(TRY(hooks.Member("poststart"))));
  TRY(HookList(TRY(hooks.Member("poststop"))));  // whoever deletes the container runs them: PoststopHooks
  return {};
}

Result<std::vector<Hook>> PoststopHooks(std::string_view config_json) {
  Json json = TRY(ParseJson(config_json, "config.json", kLimits));
  return HookList(TRY(TRY(Node(&json, "").Member("hooks")).Member("poststop")));
}

Result<Launch> Compile(const CompileInput& input) {
  Json json = TRY(ParseJson(input.config_json, "config.json", kLimits));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "config.json is not an object");
  return CompileConfig(Node(&json, ""), input);
}

Result<ExecLaunch> CompileExec(const ExecInput& input) {
  Json json = TRY(ParseJson(input.process_json, "process", kLimits));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "process is not an object");
  ExecLaunch out;
  out.cgroup = input.cgroup;
  out.namespaces = input.namespaces;
  TRY(CompileProcess(Node(&json, "process"), out.process));
  out.process.seccomp = input.seccomp;
  if (!out.process.seccomp.listener_path.empty()) {
    return Error(Code::kUnimplemented, "linux.seccomp.listenerPath: not for a further process");
  }
  return out;
}

}  // namespace crisp::native
