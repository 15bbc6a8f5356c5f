// df (du): what takes the room, and what of it could be had back.
#include <sys/stat.h>

#include <filesystem>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/disk.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct DiskOptions {
  OutputOption output;
  bool verbose = false;
};

// The file and what it was before it was rotated: FILE, FILE.20260102-150405, FILE.….gz. Blocks, as the disk has them.
uint64_t BytesOfLog(const std::string& path) {
  size_t slash = path.rfind('/');
  std::string name = path.substr(slash + 1);
  std::error_code ignored;  // what cannot be read counts nothing
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path.substr(0, slash), ignored)) {
    struct stat status{};
    std::string found = entry.path().filename();
    if (found != name && !found.starts_with(name + ".")) continue;
    if (lstat(entry.path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    bytes += static_cast<uint64_t>(status.st_blocks) * 512;
  }
  return bytes;
}

Result<DiskUse> Look(Session& session) {
  auto images = TRY(session.client->Call(&Client::Images::ListImages, {}));
  auto containers = TRY(ListContainers(*session.client, {.all = true}));
  auto stats = TRY(session.client->Call(&Client::Runtime::ListContainerStats, {}));
  std::map<std::string, uint64_t> logs;
  for (const auto& container : containers) {
    cri::ContainerStatusRequest request;
    request.set_container_id(container.id());
    auto status = session.client->Call(&Client::Runtime::ContainerStatus, request);
    if (!status && status.error().code() == Code::kNotFound) continue;  // removed meanwhile
    if (!status) return std::move(status).error();
    if (!status->status().log_path().empty()) logs[container.id()] = BytesOfLog(status->status().log_path());
  }
  return DiskUseOf({images.images().begin(), images.images().end()}, containers, stats, logs);
}

void AddSum(Table& table, const char* what, const std::vector<DiskRow>& rows) {
  DiskSum sum = Sum(rows);
  uint64_t percent = sum.bytes == 0 ? 0 : sum.reclaimable_bytes * 100 / sum.bytes;
  table.Add({what, StrCat(sum.total), StrCat(sum.active), HumanSize(sum.bytes),
             StrCat(HumanSize(sum.reclaimable_bytes), " (", percent, "%)")});
}

std::string Details(const DiskUse& use, Colours colours) {
  Table images({"IMAGE", "IMAGE ID", "SIZE", "CONTAINERS"});
  for (const DiskRow& row : use.images) {
    images.Add({row.name, ShortId(row.id), HumanSize(row.bytes), StrCat(row.uses)});
  }
  std::map<std::string, uint64_t> logs;
  for (const DiskRow& row : use.logs) logs[row.id] = row.bytes;
  Table containers({"CONTAINER", "NAME", "STATE", "OWN FILES", "LOG"});
  for (const DiskRow& row : use.containers) {
    containers.Add({ShortId(row.id), row.name, row.active ? Cell("running", Colour::kGreen) : Cell("not running"),
                    HumanSize(row.bytes), HumanSize(logs[row.id])});
  }
  return StrCat("\n", images.Render(colours), "\n", containers.Render(colours));
}

Result<int> DiskCommand(Session& session, const DiskOptions& options) {
  Output format = TRY(options.output.Get());
  DiskUse use = TRY(Look(session));
  if (!format.IsTable()) {
    TRY(PrintDocument(DiskJson(use), format));
    return 0;
  }
  Table table({"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"});
  AddSum(table, "Images", use.images);
  AddSum(table, "Containers", use.containers);
  AddSum(table, "Logs", use.logs);
  Print(table.Render(session.colours));
  if (options.verbose) Print(Details(use, session.colours));
  return 0;
}

}  // namespace

void AddDiskCommands(CLI::App& app, Session& session) {
  auto* df = app.add_subcommand("df", "what images, containers' own files and logs take of the disk")->alias("du");
  auto options = std::make_shared<DiskOptions>();
  AddOutput(*df, options->output, "table");
  df->add_flag("-v,--verbose", options->verbose, "image by image, container by container");
  SetAction(*df, session, [=, &session] { return DiskCommand(session, *options); });
}

}  // namespace crisp::ctl
