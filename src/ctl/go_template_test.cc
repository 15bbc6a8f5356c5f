#include "ctl/go_template.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace crisp::ctl {
namespace {

// The rendered text, or "error: …".
std::string Render(std::string_view text) {
  static const Json document = Json::parse(R"({"status": {"id": "abc", "attempt": 0, "createdAt": "17", "ready": true,
      "labels": {"a": "1", "b.c/d": "2"}, "mounts": [{"p": "/x"}, {"p": "/y"}], "none": [],
      "big": 12345678901234567890}})");
  auto parsed = GoTemplate::Parse(text);
  if (!parsed) return "parse error: " + parsed.error().message();
  auto done = parsed->Execute(document);
  return done ? *done : "error: " + done.error().message();
}

// What Go's text/template makes of them.
TEST(GoTemplate, RendersAsGoDoes) {
  const std::pair<std::string, std::string> cases[] = {
      {"plain", "plain"},
      {"{{.status.id}}", "abc"},
      {"a {{- .status.id -}} b", "aabcb"},
      {"a{{/* nothing }} */}}b", "ab"},
      {"{{.status.labels}}", "map[a:1 b.c/d:2]"},
      {"{{.status.mounts}} {{.status.none}}", "[map[p:/x] map[p:/y]] []"},
      {"{{index .status.labels \"b.c/d\"}}", "2"},
      {"{{(index .status.mounts 1).p}}", "/y"},
      {"{{range .status.mounts}}<{{.p}}>{{end}}", "</x></y>"},
      {"{{range $i, $m := .status.mounts}}{{$i}}={{$m.p}} {{end}}", "0=/x 1=/y "},
      {"{{range $k, $v := .status.labels}}{{$k}}:{{$v}};{{end}}", "a:1;b.c/d:2;"},
      {"{{range .status.none}}x{{else}}nothing{{end}}", "nothing"},
      {"{{range .status.mounts}}{{.p}}{{break}}{{end}}", "/x"},
      {"{{range .status.mounts}}{{if eq .p \"/x\"}}{{continue}}{{end}}{{.p}}{{end}}", "/y"},
      {"{{if .status.attempt}}again{{else if .status.ready}}ready{{else}}no{{end}}", "ready"},
      {"{{with .status.labels}}{{.a}}{{$.status.id}}{{end}}", "1abc"},
      {"{{$x := .status.id}}{{$x = upper $x}}{{$x}}", "ABC"},
      {"{{.status.id | printf \"%-5s|%5s|\" \"x\"}}", "x    |  abc|"},
      {"{{printf \"%d %q %v %05d %.2f%%\" 7 \"a\" true 42 1.5}}", "7 \"a\" true 00042 1.50%"},
      {"{{len .status.mounts}} {{len .status.id}}", "2 3"},
      {"{{eq .status.id \"x\" \"abc\"}} {{ne 1 2}} {{lt 1 2}} {{ge .status.createdAt 17}}", "true true true true"},
      {"{{and .status.ready (not .status.attempt)}} {{or .status.attempt \"d\"}}", "true d"},
      {"{{json .status.mounts}}", "[{\"p\":\"/x\"},{\"p\":\"/y\"}]\n"},
      {"{{.status.id | title | lower}} {{title \"a big day\"}}", "abc A Big Day"},
      {"{{slice .status.id 1 2}}{{print 1 2 \"x\" 3}}{{println}}", "b1 2x3\n"},
      {"{{define \"m\"}}[{{.p}}]{{end}}{{range .status.mounts}}{{template \"m\" .}}{{end}}", "[/x][/y]"},
      {"{{html \"<&>\"}} {{urlquery \"a b/c\"}}", "&lt;&amp;&gt; a+b%2Fc"},
      {"{{`raw \\n`}}{{\"q\\t}}\"}}", "raw \\nq\t}}"},
      {"{{.status.big}}", "12345678901234567890"},
      {"{{nil | json}}", "null\n"},
  };
  for (const auto& [text, wanted] : cases) EXPECT_EQ(Render(text), wanted) << text;
}

TEST(GoTemplate, ErrorsSayWhatIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"{{.status.nothing}}", "map has no entry for key \"nothing\"; it has attempt"},
      {"{{.status.id.more}}", "can't evaluate field more"},
      {"{{nofunction 1}}", "parse error: template: function \"nofunction\" not defined"},
      {"{{.a", "not closed by }}"},
      {"{{if .status}}x", "{{end}} is missing"},
      {"{{end}}", "unexpected \"end\""},
      {"{{(.status}}", "parenthesis is not closed"},
      {"{{\"a}}", "not closed"},
      {"{{}}", "empty"},
      {"{{$y}}", "no such variable: $y"},
      {"{{range .status.id}}{{end}}", "range over"},
      {"{{index .status.mounts 9}}", "out of range"},
      {"{{.status.id 1}}", "takes no arguments"},
      {"{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}", "too deep"},
      {"{{template \"b\"}}", "no such template"},
      {"{{eq .status.id true}}", "incompatible types"},
      {"{{| json}}", "command is missing"},
  };
  for (const auto& [text, wanted] : cases) {
    EXPECT_NE(Render(text).find(wanted), std::string::npos) << text << ": " << Render(text);
    EXPECT_NE(Render(text).find("error: "), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace crisp::ctl
