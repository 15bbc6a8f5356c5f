#include "ctl/describe.h"

#include "base/strings.h"
#include "base/time.h"
#include "ctl/format.h"
#include "ctl/table.h"

namespace crisp::ctl {

namespace {

namespace cri = ::runtime::v1;

using Texts = google::protobuf::Map<std::string, std::string>;

std::string Line(std::string_view what, const std::string& value) { return StrCat(what, ": ", Printable(value), "\n"); }

std::string LineIfSet(std::string_view what, const std::string& value) {
  return value.empty() ? "" : Line(what, value);
}

std::string Pairs(std::string_view what, const Texts& pairs) {
  if (pairs.empty()) return "";
  std::string out = StrCat(what, ":\n");
  for (const auto& [key, value] : std::map<std::string, std::string>(pairs.begin(), pairs.end())) {
    out += StrCat("\t", Printable(key), " -> ", Printable(value), "\n");
  }
  return out;
}

// As Go prints a time: "2026-01-02 03:04:05.6 +0000 UTC".
std::string GoTime(int64_t unix_nanos) {
  std::string text = FormatRfc3339Nano(unix_nanos);
  text[10] = ' ';
  text.pop_back();  // Z
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text + " +0000 UTC";
}

std::string NamesOfPod(const cri::PodSandboxMetadata& metadata) {
  return LineIfSet("Name", metadata.name()) + LineIfSet("UID", metadata.uid()) +
         LineIfSet("Namespace", metadata.namespace_());
}

std::string StateName(cri::ContainerState state) {
  switch (state) {
    case cri::CONTAINER_CREATED: return "Created";
    case cri::CONTAINER_RUNNING: return "Running";
    case cri::CONTAINER_EXITED: return "Exited";
    default: return "Unknown";
  }
}

}  // namespace

std::string DescribePod(const cri::PodSandbox& pod) {
  std::string out = Line("ID", pod.id()) + NamesOfPod(pod.metadata());
  if (pod.metadata().attempt() != 0) out += Line("Attempt", StrCat(pod.metadata().attempt()));
  out += Line("Status", pod.state() == cri::SANDBOX_READY ? "Ready" : "NotReady");
  out += Line("Created", GoTime(pod.created_at()));
  out += Pairs("Labels", pod.labels()) + Pairs("Annotations", pod.annotations());
  return out + Line("Runtime", pod.runtime_handler().empty() ? "(default)" : pod.runtime_handler());
}

std::string DescribeContainer(const cri::Container& container, const cri::PodSandboxMetadata& pod,
                              int64_t now_unix_nanos) {
  std::string out = Line("ID", container.id()) + Line("PodID", container.pod_sandbox_id());
  out += Line("Namespace", pod.namespace_().empty() ? "unknown" : pod.namespace_());
  out += LineIfSet("Name", container.metadata().name());
  out += Line("Attempt", StrCat(container.metadata().attempt())) + Line("State", StateName(container.state()));
  if (container.has_image()) out += Line("Image", container.image().image());
  out += Line("Created", HumanAgo(container.created_at(), now_unix_nanos));
  return out + Pairs("Labels", container.labels()) + Pairs("Annotations", container.annotations());
}

std::string DescribeImage(const cri::Image& image) {
  std::string out = Line("ID", image.id());
  for (const std::string& tag : image.repo_tags()) out += Line("RepoTags", tag);
  for (const std::string& digest : image.repo_digests()) out += Line("RepoDigests", digest);
  if (image.size() != 0) out += Line("Size", StrCat(image.size()));
  if (image.has_uid()) out += Line("Uid", StrCat("value:", image.uid().value()));
  out += LineIfSet("Username", image.username());
  return out + (image.pinned() ? "Pinned: true\n" : "");
}

std::string DescribePodStatus(const cri::PodSandboxStatus& status) {
  std::string out = Line("ID", status.id()) + NamesOfPod(status.metadata());
  if (status.has_metadata()) out += Line("Attempt", StrCat(status.metadata().attempt()));
  out += Line("Status", cri::PodSandboxState_Name(status.state())) + Line("Created", GoTime(status.created_at()));
  if (status.has_network()) {
    out += Line("IP Addresses", status.network().ip());
    for (const auto& ip : status.network().additional_ips()) out += Line("Additional IP", ip.ip());
  }
  return out + Pairs("Labels", status.labels()) + Pairs("Annotations", status.annotations());
}

std::string DescribeContainerStatus(const cri::ContainerStatus& status, int64_t now_unix_nanos) {
  std::string out = Line("ID", status.id()) + LineIfSet("Name", status.metadata().name());
  if (status.metadata().attempt() != 0) out += Line("Attempt", StrCat(status.metadata().attempt()));
  out += Line("State", cri::ContainerState_Name(status.state()));
  out += Line("Created", HumanAgo(status.created_at(), now_unix_nanos));
  if (status.state() != cri::CONTAINER_CREATED) out += Line("Started", HumanAgo(status.started_at(), now_unix_nanos));
  if (status.state() == cri::CONTAINER_EXITED) {
    out += LineIfSet("Finished", HumanAgo(status.finished_at(), now_unix_nanos));
    out += Line("Exit Code", StrCat(status.exit_code()));
  }
  return out + Pairs("Labels", status.labels()) + Pairs("Annotations", status.annotations());
}

std::string DescribeImageStatus(const cri::Image& image) {
  std::string out = Line("ID", image.id());
  for (const std::string& tag : image.repo_tags()) out += Line("Tag", tag);
  for (const std::string& digest : image.repo_digests()) out += Line("Digest", digest);
  return out + Line("Size", HumanSize(image.size()));
}

std::string DescribeInfo(const std::map<std::string, std::string>& info) {
  std::string pairs;
  for (const auto& [key, value] : info) pairs += StrCat(pairs.empty() ? "" : " ", key, ":", value);
  return Line("Info", StrCat("map[", pairs, "]"));
}

std::string DescribeFilesystems(const std::string& kind, const Filesystems& filesystems) {
  std::string out = kind + " Filesystem \n";
  for (int i = 0; i < filesystems.size(); ++i) {
    const cri::FilesystemUsage& fs = filesystems[i];
    out += Line(StrCat("TimeStamp[", i, "]"), StrCat(fs.timestamp()));
    out += Line(StrCat("Disk[", i, "]"), HumanSize(fs.used_bytes().value()));
    out += Line(StrCat("Inodes[", i, "]"), StrCat(fs.inodes_used().value()));
    out += Line(StrCat("Mountpoint[", i, "]"), fs.fs_id().mountpoint());
  }
  return out;
}

}  // namespace crisp::ctl
