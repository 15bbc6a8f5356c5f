// What runs: command line, environment, user, capabilities.
#include <strings.h>

#include <algorithm>

#include "base/strings.h"
#include "spec/parts.h"

namespace crisp::spec {

namespace {

constexpr std::string_view kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The CRI's reading (and Kubernetes' documentation, "Define a Command and Arguments"): `command` takes the place of
// ENTRYPOINT and lets CMD fall, `args` takes the place of CMD.
Result<std::vector<std::string>> CommandLine(const Planning& p) {
  const ContainerConfig& config = p.in.config;
  std::vector<std::string> command = config.command, args = config.args;
  if (command.empty()) {
    if (args.empty()) args = p.in.image.cmd;
    bool blank = p.in.image.entrypoint.size() == 1 && p.in.image.entrypoint[0].empty();  // ENTRYPOINT [""]: none
    if (!blank) command = p.in.image.entrypoint;
  }
  command.insert(command.end(), args.begin(), args.end());
  if (command.empty()) return Invalid("no command: neither the request nor the image names one");
  if (command[0].empty()) return Invalid("the command's first word is empty");
  for (const std::string& word : command) {
    if (word.find('\0') != std::string::npos) return Invalid(StrCat("command word ", Quote(word), " contains a NUL"));
  }
  return command;
}

std::string_view KeyOf(std::string_view entry) { return entry.substr(0, entry.find('=')); }

// Replaces the entry of the same key in its place or appends.
void SetEnv(std::vector<std::string>& env, std::string entry) {
  auto same = [&](const std::string& other) { return KeyOf(other) == KeyOf(entry); };
  auto found = std::find_if(env.begin(), env.end(), same);
  if (found != env.end()) {
    *found = std::move(entry);
  } else {
    env.push_back(std::move(entry));
  }
}

bool HasEnv(const std::vector<std::string>& env, std::string_view key) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& entry) { return KeyOf(entry) == key; });
}

Result<> CheckEnv(const EnvVar& var) {
  if (var.key.empty() || var.key.find('=') != std::string::npos || var.key.find('\0') != std::string::npos) {
    return Invalid(StrCat("bad name of an environment variable: ", Quote(var.key)));
  }
  if (var.value.find('\0') != std::string::npos) {
    return Invalid(StrCat("the value of environment variable ", Quote(var.key), " contains a NUL"));
  }
  // config.json is the only way to an OCI runtime, and JSON is UTF-8. Others replace such bytes in silence, and the
  // program gets a broken secret.
  if (!IsValidUtf8(var.value) || !IsValidUtf8(var.key)) {
    return Invalid(StrCat("the value of environment variable ", Quote(var.key),
                          " is not UTF-8, which an OCI runtime cannot be given"));
  }
  return {};
}

Result<std::vector<std::string>> Environment(const Planning& p) {
  std::vector<std::string> env = {std::string(kDefaultPath)};
  for (const std::string& entry : p.in.image.env) {
    if (KeyOf(entry).empty() || entry.find('\0') != std::string::npos) {
      p.Warn(StrCat("bad environment entry ", Quote(entry), " in the image, ignoring"));
      continue;
    }
    SetEnv(env, entry.find('=') == std::string::npos ? entry + "=" : entry);
  }
  if (p.in.config.tty && !HasEnv(env, "TERM")) SetEnv(env, "TERM=xterm");
  std::string hostname = TRY(PodHostname(p.in.sandbox, p.in.pod_id, p.node));
  if (!hostname.empty()) SetEnv(env, "HOSTNAME=" + hostname);
  for (const EnvVar& var : p.in.config.envs) {
    TRY(CheckEnv(var));
    SetEnv(env, var.key + "=" + var.value);
  }
  if (!HasEnv(env, "HOME")) SetEnv(env, "HOME=" + p.in.user.home);
  return env;
}

// The image's WORKDIR is foreign: a directory reached through somebody's file descriptor is the host's
// (CVE-2024-21626). Symlinks on the way there are the OCI runtime's to catch.
Result<std::string> WorkingDir(const Planning& p) {
  std::string dir = p.in.config.working_dir.empty() ? p.in.image.working_dir : p.in.config.working_dir;
  if (dir.empty()) return std::string("/");
  if (dir[0] != '/') dir.insert(0, "/");
  std::string clean = TRY(CleanPath(dir, "working directory"));
  std::vector<std::string_view> parts = Split(clean, '/');  // parts[0] is empty
  bool in_proc = parts.size() >= 4 && parts[1] == "proc" && parts[3] == "fd";
  bool in_task = parts.size() >= 6 && parts[1] == "proc" && parts[3] == "task" && parts[5] == "fd";
  if (in_proc || in_task || IsWithin(clean, "/dev/fd")) {
    return Invalid(StrCat("working directory ", Quote(clean), " lies in a list of file descriptors"));
  }
  return clean;
}

Result<oci::CapabilitySet> ParseSet(const std::vector<std::string>& names, bool& all) {
  oci::CapabilitySet set = 0;
  for (const std::string& name : names) {
    if (name.size() == 3 && strcasecmp(name.c_str(), "ALL") == 0) {
      all = true;
      continue;
    }
    auto number = oci::CapabilityNumber(name);
    if (!number) return Invalid(StrCat("no such capability: ", Quote(name)));
    set |= oci::CapabilityBit(*number);
  }
  return set;
}

}  // namespace

// Order as the kubelet's users expect: ALL first, then single names, so that drop ALL + add X gives X, and
// add ALL + drop X gives everything but X.
Result<oci::CapabilitySet> PlanCapabilities(const Planning& p) {
  const Capabilities& wanted = p.security().capabilities;
  oci::CapabilitySet ours = oci::AllCapabilities() & p.node.capability_bounds;
  bool add_all = false, drop_all = false;
  oci::CapabilitySet add = TRY(ParseSet(wanted.add, add_all));
  oci::CapabilitySet drop = TRY(ParseSet(wanted.drop, drop_all));
  if (oci::CapabilitySet lacking = add & ~ours & ~drop; lacking != 0 && !p.privileged()) {
    return NotHere(StrCat("this node itself lacks ", Join(oci::CapabilityNames(lacking), ", ")));
  }
  if (p.privileged() || add_all) {
    if (oci::CapabilitySet lacking = oci::AllCapabilities() & ~ours) {
      p.Warn(StrCat("this node itself lacks ", Join(oci::CapabilityNames(lacking), ", "), ", leaving out"));
    }
  }
  if (p.privileged()) return ours;
  oci::CapabilitySet set = oci::DefaultCapabilities() & ours;
  if (add_all) set = ours;
  if (drop_all) set = add_all ? (add & ours) : 0;
  set = (set | add) & ~drop;
  return set & ours;
}

namespace {

Result<Json> CapabilityLists(const Planning& p, oci::CapabilitySet bounding) {
  bool all = false;
  oci::CapabilitySet ambient = TRY(ParseSet(p.security().capabilities.add_ambient, all));
  if (all) ambient = bounding;
  if (oci::CapabilitySet lacking = ambient & ~bounding) {
    return Invalid(StrCat("ambient capabilities that are not added: ", Join(oci::CapabilityNames(lacking), ", ")));
  }
  std::vector<std::string> names = oci::CapabilityNames(bounding);
  // Inheritable stays empty (CVE-2022-29162) but for what must be there for ambient: capabilities(7) wants both.
  std::vector<std::string> ambient_names = oci::CapabilityNames(ambient);
  return Json{{"bounding", names},
              {"effective", names},
              {"permitted", names},
              {"inheritable", ambient_names},
              {"ambient", ambient_names}};
}

}  // namespace

Result<Json> PlanProcess(const Planning& p, oci::CapabilitySet capabilities) {
  Json user = {{"uid", p.in.user.uid}, {"gid", p.in.user.gid}};
  if (!p.in.user.additional_gids.empty()) user["additionalGids"] = p.in.user.additional_gids;
  std::vector<std::string> args = TRY(CommandLine(p)), env = TRY(Environment(p));
  std::string cwd = TRY(WorkingDir(p));
  Json lists = TRY(CapabilityLists(p, capabilities));
  Json process = {{"terminal", p.in.config.tty},
                  {"user", std::move(user)},
                  {"args", std::move(args)},
                  {"env", std::move(env)},
                  {"cwd", std::move(cwd)},
                  {"capabilities", std::move(lists)},
                  {"noNewPrivileges", p.security().no_new_privs},
                  {"oomScoreAdj", PlanOomScoreAdj(p.in.config.resources.oom_score_adj, p.node, p.warnings)}};
  for (const Rlimit& limit : p.policy.rlimits) {
    process["rlimits"].push_back({{"type", limit.type}, {"soft", limit.soft}, {"hard", limit.hard}});
  }
  std::string apparmor = TRY(PlanAppArmor(p));
  if (!apparmor.empty()) process["apparmorProfile"] = apparmor;
  return process;
}

Result<> CheckCommand(const std::vector<std::string>& cmd) {
  if (cmd.empty() || cmd[0].empty()) return Invalid("no command to execute");
  for (const std::string& word : cmd) {
    if (word.find('\0') != std::string::npos) return Invalid(StrCat("command word ", Quote(word), " contains a NUL"));
  }
  return {};
}

Result<std::string> PlanExec(const std::string& config_json, const std::vector<std::string>& cmd, bool tty) {
  TRY(CheckCommand(cmd));
  Json config = TRY(ParseJson(config_json, "config.json"));
  auto found = config.find("process");
  if (found == config.end() || !found->is_object()) return Error(Code::kInternal, "config.json has no process");
  Json process = std::move(*found);
  process["args"] = cmd;
  process["terminal"] = tty;
  process.erase("consoleSize");
  std::vector<std::string> env = TRY(JsonGet<std::vector<std::string>>(process, "env"));
  if (tty && !HasEnv(env, "TERM")) {
    SetEnv(env, "TERM=xterm");
    process["env"] = env;
  }
  return DumpJson(process);
}

}  // namespace crisp::spec
