// trace, inspectp --timing: where the time of a pod's start went (crispd only).
#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/terminal.h"
#include "ctl/timing.h"

namespace crisp::ctl {

namespace {

struct Traced {
  cri::PodSandboxStatus pod;
  std::vector<TimedCall> calls;
};

Result<Traced> GetTimings(Session& session, const std::string& pod) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(TRY(FindPod(*session.client, pod)));
  request.set_verbose(true);
  auto answer = TRY(session.client->Call(&Client::Runtime::PodSandboxStatus, request));
  auto text = answer.info().find("timing");
  if (text == answer.info().end()) {
    return Error(Code::kUnimplemented, StrCat("the runtime on ", session.client->runtime_endpoint(),
                                              " does not tell where time goes (crispd does)"));
  }
  Json document = TRY(ParseJson(text->second, "timing"));
  Traced traced{.pod = answer.status(),
                .calls = TRY(ParseTimings(document.is_object() ? document.value("calls", Json()) : document))};
  if (traced.calls.empty()) {
    return Error(Code::kNotFound, StrCat("nothing is known of the start of pod ", pod,
                                         ": timings are gone when crispd starts again; start the pod anew"));
  }
  return traced;
}

Result<int> TraceCommand(Session& session, const std::string& pod, const std::string& form) {
  if (form != "text" && form != "svg") {
    return Error(Code::kInvalidArgument, StrCat("unknown output format ", Quote(form), " (text, svg)"));
  }
  Traced traced = TRY(GetTimings(session, pod));
  std::string title = StrCat("pod ", traced.pod.metadata().namespace_(), "/", traced.pod.metadata().name(), " (",
                             ShortId(traced.pod.id()), "), ", FormatRfc3339Nano(traced.calls.front().began_at));
  if (form == "svg") {
    Print(WaterfallSvg(traced.calls, title));
    return 0;
  }
  auto size = SizeOfTerminal(1);
  Print(Printable(title) + "\n" + WaterfallText(traced.calls, size ? size->width : 100));
  return 0;
}

}  // namespace

Result<> PrintTimings(Session& session, const std::string& pod) {
  Traced traced = TRY(GetTimings(session, pod));
  Table table({"CALL", "CONTAINER", "STAGE", "\u00b5s"});
  for (const TimedCall& call : traced.calls) {
    for (const TimedStage& stage : call.stages) {
      table.Add({call.call, call.container, stage.name, StrCat(stage.took_us)});
    }
    table.Add({call.call, call.container, Cell("(all)", Colour::kYellow), Cell(StrCat(call.took_us), Colour::kYellow)});
  }
  Print(table.Render(session.colours));
  return {};
}

void AddTraceCommands(CLI::App& app, Session& session) {
  auto* trace = app.add_subcommand("trace", "draw where the time of a pod's start went (crispd only)");
  auto pod = std::make_shared<std::string>();
  auto form = std::make_shared<std::string>("text");
  trace->add_option("POD", *pod)->required();
  trace->add_option("-o,--output", *form, "text or svg (text)");
  trace->callback([=, &session] { session.action = [=, &session] { return TraceCommand(session, *pod, *form); }; });
}

}  // namespace crisp::ctl
