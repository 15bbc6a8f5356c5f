#include "ocicli/criu_flags.h"

#include "base/strings.h"

namespace crisp::ocicli {

namespace {

using Words = std::vector<std::string>;

void Append(Words& out, const Words& words) { out.insert(out.end(), words.begin(), words.end()); }

// Those that both commands have, as criu calls them.
Words Shared(const Flags& flags) {
  Words out;
  for (const char* same : {"tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup", "lazy-pages"}) {
    if (flags.On(same)) out.push_back(StrCat("--", same));
  }
  out.push_back(StrCat("--manage-cgroups=", flags.Text("manage-cgroups-mode", "soft")));
  for (const std::string& type : flags.List("empty-ns")) Append(out, {"--empty-ns", type});
  return out;
}

}  // namespace

Words CriuDumpArgs(const Flags& flags, const native::DumpPlan& plan, const native::CriuDirs& dirs) {
  bool pre_dump = flags.On("pre-dump");
  Words out = {pre_dump ? "pre-dump" : "dump"};
  Append(out, native::DirArgs(dirs));
  Append(out, native::DumpArgs(plan));
  Append(out, Shared(flags));
  if (flags.On("leave-running") && !pre_dump) out.push_back("--leave-running");
  if (pre_dump || flags.Has("parent-path")) out.push_back("--track-mem");
  if (flags.Has("parent-path")) Append(out, {"--prev-images-dir", flags.Text("parent-path")});
  if (flags.Has("status-fd")) Append(out, {"--status-fd", flags.Text("status-fd")});
  if (flags.Has("page-server")) {
    std::string server = flags.Text("page-server");
    size_t colon = server.rfind(':');
    Append(out, {"--page-server", "--address", server.substr(0, colon), "--port",
                 colon == std::string::npos ? "" : server.substr(colon + 1)});
  }
  return out;
}

Words CriuRestoreArgs(const Flags& flags, const native::RestorePlan& plan, const native::CriuDirs& dirs) {
  Words out = {"restore"};
  Append(out, native::DirArgs(dirs));
  Append(out, native::RestoreArgs(plan));
  Append(out, Shared(flags));
  if (flags.Has("lsm-profile")) Append(out, {"--lsm-profile", flags.Text("lsm-profile")});
  if (flags.Has("lsm-mount-context")) Append(out, {"--lsm-mount-context", flags.Text("lsm-mount-context")});
  return out;
}

}  // namespace crisp::ocicli
