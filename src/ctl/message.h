// CRI messages as documents: reading pod and container files, printing answers as JSON or YAML in crictl's form.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <google/protobuf/message.h>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace crisp::ctl {

// Fills `message` from JSON or YAML text (whatever begins with '{' is JSON) in crictl's format: protobuf's JSON, with
// snake_case or camelCase names and enums as names or numbers. An unknown field is an error that names it.
Result<> ParseMessage(std::string_view text, std::string_view what, google::protobuf::Message& message);
// The same from a file; "-" is stdin.
Result<> ReadMessage(const std::string& path, google::protobuf::Message& message);

// Protobuf's JSON with default values written out, as crictl prints lists.
Result<nlohmann::json> MessageToJson(const google::protobuf::Message& message);
// As Go's encoding/json writes a message: names as in the API file, default values left out. crictl prints parts of
// `info` so.
Result<nlohmann::json> MessageToGoJson(const google::protobuf::Message& message);
// crictl writes messages that are not set as null in the statuses of pods and containers.
void UnsetToNull(const google::protobuf::Message& message, nlohmann::json& document);
// crictl's form of one inspected object: {"status": …, "info" members beside it, parsed where they are JSON objects}.
// Times of the status (createdAt, startedAt, finishedAt) become RFC 3339 texts.
Result<nlohmann::json> StatusToJson(const google::protobuf::Message& status,
                                    const std::map<std::string, std::string>& info);

enum class OutputFormat { kTable, kJson, kYaml, kGoTemplate };
// kJson or kYaml. kJson: two blanks a level and a newline at the end, as crictl.
std::string RenderDocument(const nlohmann::json& document, OutputFormat format);

}  // namespace crisp::ctl
