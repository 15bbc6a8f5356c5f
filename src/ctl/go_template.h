// Go's text/template for `-o go-template`, as far as crictl's users write it: text, {{.a.b}}, {{- trimming -}},
// comments, pipelines, variables, if/else if/else, with, range (break, continue, else), define/template, the built-in
// functions (and or not eq ne lt le gt ge len index slice print printf println html js urlquery) and crictl's json,
// title, lower and upper. Written after pkg.go.dev/text/template. A key that a map does not have is an error, as in
// crictl (missingkey=error). Pure; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace crisp::ctl {

namespace go_template {
struct Node;
}

class GoTemplate {
 public:
  // kInvalidArgument says what is wrong and where.
  static Result<GoTemplate> Parse(std::string_view text);
  // kFailedPrecondition: it does not fit the document.
  Result<std::string> Execute(const nlohmann::json& document) const;

  GoTemplate(GoTemplate&&) noexcept;
  GoTemplate& operator=(GoTemplate&&) noexcept;
  ~GoTemplate();

 private:
  GoTemplate();
  std::vector<go_template::Node> body_;
};

}  // namespace crisp::ctl
