#include "ctl/schema.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::ctl {

namespace {

namespace pb = google::protobuf;

constexpr const char* kDialect = "https://json-schema.org/draft/2020-12/schema";

Json Reference(const pb::Descriptor& type) { return {{"$ref", StrCat("#/$defs/", type.name())}}; }

Json One(const pb::FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_BOOL: return {{"type", "boolean"}};
    case pb::FieldDescriptor::CPPTYPE_STRING: return {{"type", "string"}};
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return {{"oneOf", Json::array({Json{{"type", "string"}}, Json{{"type", "integer"}}})}};
    case pb::FieldDescriptor::CPPTYPE_MESSAGE: return Reference(*field.message_type());
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
    case pb::FieldDescriptor::CPPTYPE_FLOAT: return {{"type", "number"}};
    default: return {{"type", "integer"}};
  }
}

Json Property(const pb::FieldDescriptor& field) {
  if (field.is_map()) return {{"type", "object"}, {"additionalProperties", One(*field.message_type()->map_value())}};
  if (field.is_repeated()) return {{"type", "array"}, {"items", One(field)}};
  return One(field);
}

// Adds `type` and all that its fields are made of.
void Define(const pb::Descriptor& type, Json& definitions) {
  if (definitions.contains(type.name())) return;
  definitions[type.name()] = nullptr;  // a type within itself ends here
  Json properties = Json::object();
  for (int i = 0; i < type.field_count(); ++i) {
    const pb::FieldDescriptor& field = *type.field(i);
    properties[field.name()] = Property(field);
    const pb::Descriptor* inner =
        field.is_map() ? field.message_type()->map_value()->message_type() : field.message_type();
    if (inner != nullptr) Define(*inner, definitions);
  }
  definitions[type.name()] = {{"type", "object"}, {"properties", properties}, {"additionalProperties", false}};
}

}  // namespace

Json SchemaOf(const pb::Descriptor& type, std::string_view id) {
  Json definitions = Json::object();
  Define(type, definitions);
  Json schema = Reference(type);
  schema["$schema"] = kDialect;
  schema["$id"] = id;
  schema["$defs"] = std::move(definitions);
  return schema;
}

}  // namespace crisp::ctl
