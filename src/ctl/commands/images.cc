// images, inspecti, rmi, imagefsinfo; images import, export and untag, which CRI has no calls for.
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/describe.h"
#include "ctl/format.h"
#include "ctl/image_rows.h"
#include "ctl/near.h"

namespace crisp::ctl {

namespace {

struct ImagesOptions {
  std::string name;
  std::vector<std::string> filters;
  OutputOption output;
  bool digests = false, no_trunc = false, pinned = false, quiet = false, verbose = false;
};

Result<std::vector<cri::Image>> ListImages(Session& session, const std::string& name) {
  cri::ListImagesRequest request;
  if (!name.empty()) request.mutable_filter()->mutable_image()->set_image(name);
  auto list = TRY(session.client->Call(&Client::Images::ListImages, request));
  std::vector<cri::Image> images(list.images().begin(), list.images().end());
  SortImages(images);
  return images;
}

Result<int> ImagesCommand(Session& session, const ImagesOptions& options) {
  Output format = TRY(options.output.Get());
  auto all = TRY(ListImages(session, options.name));
  auto images = TRY(SelectImages(std::move(all), options.filters));
  if (options.quiet && format.IsTable()) {
    for (const auto& image : images) Print(image.id() + "\n");
    return 0;
  }
  if (!format.IsTable()) {
    cri::ListImagesResponse list;
    for (const auto& image : images) *list.add_images() = image;
    TRY(PrintMessage(list, format));
    return 0;
  }
  if (options.verbose) {
    for (const auto& image : images) Print(DescribeImage(image) + "\n");
    return 0;
  }
  std::vector<std::string> header = {"IMAGE", "TAG"};
  if (options.digests) header.push_back("DIGEST");
  header.insert(header.end(), {"IMAGE ID", "SIZE"});
  if (options.pinned) header.push_back("PINNED");
  Table table(header);
  for (const ImageRow& row : ImageRows(images)) {
    std::vector<Cell> cells = {row.repository, row.tag};
    if (options.digests) cells.push_back(options.no_trunc || row.digest == "<none>" ? row.digest : ShortId(row.digest));
    cells.push_back(options.no_trunc ? row.image->id() : ShortId(row.image->id()));
    cells.push_back(HumanSize(row.image->size()));
    if (options.pinned) cells.push_back(row.image->pinned() ? "true" : "false");
    table.Add(std::move(cells));
  }
  Print(table.Render(session.colours));
  return 0;
}

}  // namespace

Result<cri::ImageStatusResponse> ImageStatusOf(Session& session, const std::string& name, bool verbose) {
  cri::ImageStatusRequest request;
  request.mutable_image()->set_image(name);
  request.set_verbose(verbose);
  auto answer = TRY(session.client->Call(&Client::Images::ImageStatus, request), StrCat("image ", name));
  if (answer.has_image()) return answer;
  std::vector<std::string> known;
  for (const auto& image : TRY(ListImages(session, ""))) {
    known.push_back(ShortId(image.id()));
    for (const std::string& tag : image.repo_tags()) {
      known.push_back(tag);
      known.push_back(tag.substr(tag.rfind('/') + 1));
    }
  }
  return Error(Code::kNotFound, StrCat("no such image: ", name, DidYouMean(NearMisses(name, known))));
}

namespace {

struct InspectOptions {
  std::vector<std::string> names, filters;
  std::string name;
  OutputOption output;
  bool quiet = false;
};

Result<int> InspectImagesCommand(Session& session, const InspectOptions& options) {
  Output format = TRY(options.output.Get());
  std::vector<std::string> names = options.names;
  if (names.empty() && options.name.empty() && options.filters.empty()) {
    return Error(Code::kInvalidArgument, "inspecti: name an image, or choose by --name or --filter");
  }
  if (names.empty()) {
    auto listed = TRY(ListImages(session, options.name));
    for (const auto& image : TRY(SelectImages(std::move(listed), options.filters))) names.push_back(image.id());
  }
  std::vector<Json> statuses;
  int code = ForEach(session, names, [&](const std::string& name) -> Result<> {
    auto answer = TRY(ImageStatusOf(session, name, !options.quiet));
    std::map<std::string, std::string> info(answer.info().begin(), answer.info().end());
    if (format.IsTable()) {
      Print(DescribeImageStatus(answer.image()) + (options.quiet ? "" : DescribeInfo(info)));
      return {};
    }
    statuses.push_back(TRY(StatusToJson(answer.image(), info)));
    return {};
  });
  TRY(PrintStatuses(std::move(statuses), format));
  return code;
}

Result<> RemoveImage(Session& session, const std::string& name) {
  auto answer = TRY(ImageStatusOf(session, name, false));
  cri::RemoveImageRequest request;
  request.mutable_image()->set_image(name);
  TRY(session.client->Call(&Client::Images::RemoveImage, request, kPodTimeout), StrCat("remove image ", name));
  for (const std::string& tag : answer.image().repo_tags()) Print(StrCat("Deleted: ", tag, "\n"));
  if (answer.image().repo_tags().empty()) Print(StrCat("Deleted: ", answer.image().id(), "\n"));
  return {};
}

// All images, or those that no container uses; pinned ones stay.
Result<std::vector<std::string>> ImagesToRemove(Session& session, bool prune) {
  std::vector<cri::Container> containers;
  if (prune) containers = TRY(ListContainers(*session.client, ListFilter{.all = true}));
  std::vector<std::string> names;
  for (const auto& image : TRY(ListImages(session, ""))) {
    if (!image.pinned() && !IsUsed(image, containers)) names.push_back(image.id());
  }
  return names;
}

Result<int> RmiCommand(Session& session, std::vector<std::string> names, bool all, bool prune) {
  if (all || prune) {
    names = TRY(ImagesToRemove(session, prune));
  } else if (names.empty()) {
    return Error(Code::kInvalidArgument, "rmi: name an image, or -a for all, or --prune for the unused ones");
  }
  return ForEach(session, names, [&](const std::string& name) { return RemoveImage(session, name); });
}

Result<int> FsInfoCommand(Session& session, const OutputOption& output) {
  Output format = TRY(output.Get());
  auto answer = TRY(session.client->Call(&Client::Images::ImageFsInfo, {}));
  if (!format.IsTable()) {
    Json document = TRY(StatusToJson(answer, {}));
    TRY(PrintDocument(document, format));
    return 0;
  }
  Print(DescribeFilesystems("Container", answer.container_filesystems()));
  Print(DescribeFilesystems("Image", answer.image_filesystems()));
  return 0;
}

// crispd opens the path itself, so it must not depend on our working directory.
Result<std::string> Absolute(const std::string& path) {
  if (path.empty() || path == "-") return Error(Code::kInvalidArgument, "a file is wanted, not a pipe");
  if (path.starts_with('/')) return path;
  char here[PATH_MAX];
  if (getcwd(here, sizeof here) == nullptr) return Errno(errno, "getcwd");
  return StrCat(here, "/", path);
}

Result<int> ImportCommand(Session& session, const std::string& path, const std::string& reference) {
  ::crisp::v1::ImportRequest request;
  request.set_path(TRY(Absolute(path)));
  request.set_reference(reference);
  auto answer = TRY(session.client->Call(&Client::Own::Import, request, Client::kNoTimeout), StrCat("import ", path));
  for (const auto& image : answer.images()) {
    if (image.repo_tags().empty()) Print(StrCat("Imported: ", image.id(), "\n"));
    for (const std::string& tag : image.repo_tags()) Print(StrCat("Imported: ", tag, " (", ShortId(image.id()), ")\n"));
  }
  return 0;
}

Result<int> ExportCommand(Session& session, const std::string& image, const std::string& path) {
  ::crisp::v1::ExportRequest request;
  request.set_image(image);
  request.set_path(TRY(Absolute(path)));
  TRY(session.client->Call(&Client::Own::Export, request, Client::kNoTimeout), StrCat("export ", image));
  return 0;
}

Result<> Untag(Session& session, const std::string& name) {
  ::crisp::v1::UntagRequest request;
  request.set_image(name);
  TRY(session.client->Call(&Client::Own::Untag, request, kPodTimeout), StrCat("untag ", name));
  Print(StrCat("Untagged: ", name, "\n"));
  return {};
}

void AddArchiveCommands(CLI::App& images, Session& session) {
  auto* import_command = images.add_subcommand("import", "read an OCI or docker archive (crispd only)");
  auto path = std::make_shared<std::string>();
  auto reference = std::make_shared<std::string>();
  import_command->add_option("FILE", *path, "tar, gzip or zstd, as seen by crispd")->required();
  import_command->add_option("-t,--tag,--reference", *reference, "the image's name; otherwise the archive's names");
  import_command->callback(
      [=, &session] { session.action = [=, &session] { return ImportCommand(session, *path, *reference); }; });

  auto* export_ = images.add_subcommand("export", "write an image as an OCI archive (crispd only)");
  auto image = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  export_->add_option("IMAGE", *image)->required();
  export_->add_option("FILE", *out, "must not exist")->required();
  export_->callback([=, &session] { session.action = [=, &session] { return ExportCommand(session, *image, *out); }; });

  auto* untag = images.add_subcommand("untag", "remove one name of an image (crispd only)");
  auto names = std::make_shared<std::vector<std::string>>();
  untag->add_option("IMAGE", *names)->required();
  untag->callback([=, &session] {
    session.action = [=, &session]() -> Result<int> {
      return ForEach(session, *names, [&](const std::string& name) { return Untag(session, name); });
    };
  });
}

}  // namespace

void AddImageCommands(CLI::App& app, Session& session) {
  auto* images = app.add_subcommand("images", "list images; also: image history, import, export, untag")
                     ->alias("image")
                     ->alias("img");
  auto options = std::make_shared<ImagesOptions>();
  images->add_option("NAME", options->name, "only this image");
  images
      ->add_option("-f,--filter", options->filters,
                   "dangling=true|false, reference=REGEX, before=IMAGE or since=IMAGE, repeated")
      ->allow_extra_args(false);
  AddOutput(*images, options->output, "table");
  images->add_flag("--digests", options->digests, "show digests");
  images->add_flag("--no-trunc", options->no_trunc, "whole ids");
  images->add_flag("--pinned", options->pinned, "show which are pinned");
  images->add_flag("-q,--quiet", options->quiet, "only ids");
  images->add_flag("-v,--verbose", options->verbose, "everything");
  images->callback([=, &session] {
    if (images->get_subcommands().empty()) session.action = [=, &session] { return ImagesCommand(session, *options); };
  });
  AddArchiveCommands(*images, session);
  AddHistoryCommands(app, *images, session);

  auto* inspecti = app.add_subcommand("inspecti", "show everything about images");
  auto inspect = std::make_shared<InspectOptions>();
  inspecti->add_option("IMAGE", inspect->names);
  inspecti->add_option("--name", inspect->name, "of this name, where no IMAGE is named");
  inspecti->add_option("-f,--filter", inspect->filters, "as of images")->allow_extra_args(false);
  AddOutput(*inspecti, inspect->output, "json");
  inspecti->add_flag("-q,--quiet", inspect->quiet, "only the status, without the runtime's own details");
  inspecti->callback([=, &session] { session.action = [=, &session] { return InspectImagesCommand(session, *inspect); }; });

  auto* rmi = app.add_subcommand("rmi", "remove images with all their names");
  auto remove = std::make_shared<std::vector<std::string>>();
  auto all = std::make_shared<bool>(false);
  auto prune = std::make_shared<bool>(false);
  rmi->add_option("IMAGE", *remove);
  rmi->add_flag("-a,--all", *all, "all but the pinned ones");
  rmi->add_flag("-q,--prune", *prune, "those that no container uses");
  rmi->callback(
      [=, &session] { session.action = [=, &session] { return RmiCommand(session, *remove, *all, *prune); }; });

  auto* fs = app.add_subcommand("imagefsinfo", "how much room images and containers take");
  auto fs_output = std::make_shared<OutputOption>();
  AddOutput(*fs, *fs_output, "json");
  fs->callback([=, &session] { session.action = [=, &session] { return FsInfoCommand(session, *fs_output); }; });
}

}  // namespace crisp::ctl
