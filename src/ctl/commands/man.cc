// man: the manual pages, in roff, from the same commands and options that --help shows.
#include <algorithm>

#include "base/strings.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

// Dots and quotes at the beginning of a line are orders, a backslash is one anywhere; a bare dash becomes a hyphen. Of
// what is not ASCII we only use the ellipsis.
std::string Roff(std::string_view text) {
  constexpr std::string_view kEllipsis = "\u2026";
  std::string out;
  while (!text.empty()) {
    char c = text.front();
    if (text.starts_with(kEllipsis)) {
      out += out.empty() ? "\\&..." : "...";
      text.remove_prefix(kEllipsis.size());
      continue;
    }
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += "\\&";
      out += c;
    }
    text.remove_prefix(1);
  }
  return out;
}

bool IsShown(const CLI::App* command) { return !command->get_group().empty(); }

std::vector<CLI::App*> Commands(CLI::App& parent) {
  auto commands = parent.get_subcommands([](CLI::App* command) { return IsShown(command); });
  std::ranges::sort(commands, {}, [](const CLI::App* command) { return command->get_name(); });
  return commands;
}

// "-o, --output FORM".
std::string Names(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back(StrCat("\\fB", Roff("-" + name), "\\fR"));
  for (const std::string& name : option.get_lnames()) names.push_back(StrCat("\\fB", Roff("--" + name), "\\fR"));
  std::string text = Join(names, ", ");
  if (option.get_items_expected_max() > 0) text += " \\fIVALUE\\fR";
  return text;
}

// The words that a command takes, as in "CONTAINER ...".
std::string Words(CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    bool many = option->get_items_expected_max() > 1, needed = option->get_required();
    std::string name = StrCat("\\fI", Roff(option->get_name(true)), "\\fR", many ? " ..." : "");
    words += StrCat(" ", needed ? name : StrCat("[", name, "]"));
  }
  return words;
}

std::string OptionList(CLI::App& command) {
  std::string text;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->nonpositional() || option->get_group().empty()) continue;
    std::string about = option->get_description();
    if (!option->get_envname().empty()) about += StrCat(" (environment: ", option->get_envname(), ")");
    text += StrCat(".TP\n", Names(*option), "\n", Roff(about), "\n");
  }
  return text;
}

std::string Synopsis(CLI::App& command, const std::string& path) {
  return StrCat("\\fB", Roff(path), "\\fR [", "options", "]", Words(command), "\n");
}

// A command with its options and those under it, each as a part of the page.
void Describe(CLI::App& command, const std::string& path, std::string& page) {
  std::string aliases = Join(command.get_aliases(), ", ");
  page += StrCat(".SS ", Roff(path), aliases.empty() ? "" : StrCat(" (", Roff(aliases), ")"), "\n",
                 Synopsis(command, StrCat("crispctl ", path)), ".PP\n", Roff(command.get_description()), "\n",
                 OptionList(command));
  for (CLI::App* sub : Commands(command)) Describe(*sub, StrCat(path, " ", sub->get_name()), page);
}

std::string Header(const std::string& name, const std::string& about) {
  return StrCat(".TH ", Roff(name), " 1 \"\" \"crisp ", CRISP_VERSION, "\" \"crisp\"\n.SH NAME\n", Roff(name), " \\- ",
                Roff(about), "\n");
}

constexpr const char* kRest = R"(.SH ENVIRONMENT
.TP
\fBCRISP_ENDPOINT\fR, \fBCONTAINER_RUNTIME_ENDPOINT\fR, \fBIMAGE_SERVICE_ENDPOINT\fR
sockets of the runtime and of its image service, where no option names them
.TP
\fBCRI_CONFIG_FILE\fR
the settings file
.TP
\fBCRICTL_AUTH\fR, \fBCRICTL_CREDS\fR, \fBCRICTL_PULL_TIMEOUT\fR
for pulls, as the options of \fBpull\fR
.TP
\fBNO_COLOR\fR
no colours
.SH FILES
.TP
.I /etc/crispctl.yaml
settings; \fBcrispctl config\fR shows and changes them
.TP
.I /etc/crictl.yaml
settings where the program is called by the name crictl; without it, crictl.yaml beside the program
.TP
.I /run/crisp/crisp.sock
the socket that is asked by default
.SH EXIT STATUS
0 done; 1 failed; 2 the command line was not understood. \fBexec\fR ends with the command's own status. Called by the
name crictl, a command line that is not understood gives 1, an unknown command 3.
.PP
Behind each error stands what to do about it.
.SH SEE ALSO
crispctl help COMMAND
)";

std::string WholePage(CLI::App& app) {
  std::string page = Header("crispctl", "the command line of a CRI runtime");
  page += ".SH SYNOPSIS\n\\fBcrispctl\\fR [options] \\fICOMMAND\\fR [options] [words]\n";
  page += ".SH DESCRIPTION\n";
  page += "Shows and changes pods, containers and images of any runtime that speaks the Container Runtime Interface.\n";
  page += ".SH OPTIONS\n" + OptionList(app) + ".SH COMMANDS\n";
  for (CLI::App* command : Commands(app)) Describe(*command, command->get_name(), page);
  return page + kRest;
}

std::string OnePage(CLI::App& command) {
  std::string page = Header("crispctl-" + command.get_name(), command.get_description());
  page +=
      StrCat(".SH SYNOPSIS\n", Synopsis(command, "crispctl " + command.get_name()), ".SH OPTIONS\n", OptionList(command));
  auto subs = Commands(command);
  if (!subs.empty()) page += ".SH COMMANDS\n";
  for (CLI::App* sub : subs) Describe(*sub, StrCat(command.get_name(), " ", sub->get_name()), page);
  return page + ".SH SEE ALSO\n.BR crispctl (1)\n";
}

}  // namespace

void AddManCommands(CLI::App& app, Session& session) {
  auto* man = app.add_subcommand("man", "the manual page in roff: crispctl man | man -l -");
  auto name = std::make_shared<std::string>();
  man->add_option("COMMAND", *name, "only of this command");
  SetAction(*man, session, [=, &app]() -> Result<int> {
    if (name->empty()) {
      Print(WholePage(app));
      return 0;
    }
    Print(OnePage(*TRY(FindCommand(app, *name))));
    return 0;
  });
}

}  // namespace crisp::ctl
