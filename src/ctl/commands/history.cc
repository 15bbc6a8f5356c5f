// history, image history: the steps that built an image.
#include "ctl/history.h"

#include "base/json.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct HistoryOptions {
  std::string image;
  OutputOption output;
  bool quiet = false, no_trunc = false;
};

// Code points are not cut in two.
std::string Cut(const std::string& text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes) + "…";
}

Result<int> HistoryCommand(Session& session, const HistoryOptions& options) {
  constexpr size_t kByMax = 60;
  Output format = TRY(options.output.Get());
  auto answer = TRY(ImageStatusOf(session, options.image, true));
  std::map<std::string, std::string> info(answer.info().begin(), answer.info().end());
  auto steps = TRY(HistoryOf(info), StrCat("image ", options.image));
  if (options.quiet) {
    for (const HistoryStep& step : steps) {
      if (!step.diff_id.empty()) Print(step.diff_id + "\n");
    }
    return 0;
  }
  if (!format.IsTable()) {
    TRY(PrintDocument(HistoryJson(steps), format));
    return 0;
  }
  Table table({"LAYER", "CREATED", "CREATED BY", "COMMENT"});
  int64_t now = UnixNanosNow();
  for (const HistoryStep& step : steps) {
    std::string layer = options.no_trunc ? step.diff_id : ShortId(step.diff_id);
    table.Add({step.diff_id.empty() ? Cell("<none>", Colour::kDim) : Cell(layer),
               HumanAgo(step.created_unix_nanos, now),
               options.no_trunc ? step.created_by : Cut(step.created_by, kByMax), step.comment});
  }
  Print(table.Render(session.colours));
  return 0;
}

void AddHistory(CLI::App& parent, Session& session) {
  auto* history = parent.add_subcommand("history", "the steps that built an image, newest first");
  auto options = std::make_shared<HistoryOptions>();
  history->add_option("IMAGE", options->image)->required();
  AddOutput(*history, options->output, "table");
  history->add_flag("-q,--quiet", options->quiet, "only the layers' diffIDs");
  history->add_flag("--no-trunc", options->no_trunc, "whole ids and commands");
  SetAction(*history, session, [=, &session] { return HistoryCommand(session, *options); });
}

}  // namespace

void AddHistoryCommands(CLI::App& app, CLI::App& images, Session& session) {
  AddHistory(app, session);
  AddHistory(images, session);
}

}  // namespace crisp::ctl
