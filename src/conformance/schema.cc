#include "conformance/schema.h"

#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>

#include "base/check.h"
#include "base/strings.h"
#include "conformance/embedded.h"

namespace crisp::conformance {
namespace {

namespace pb = google::protobuf;
using pb::FieldDescriptor;
using pb::Message;
using pb::Reflection;

Error WrongKind(const FieldDescriptor& field) {
  return Error(Code::kInvalidArgument, StrCat("field ", field.full_name(), ": a value of the wrong kind"));
}

Result<> FillMessage(Message& message, const Json& value);

// One value into `field`: set, or added to a repeated one.
Result<> FillValue(Message& message, const FieldDescriptor& field, const Json& value) {
  const Reflection& r = *message.GetReflection();
  const bool add = field.is_repeated();
  switch (field.cpp_type()) {
#define NUMBER(kind, Name, Type)                        \
  case FieldDescriptor::kind:                           \
    if (!value.is_number()) return WrongKind(field);    \
    if (add)                                            \
      r.Add##Name(&message, &field, value.get<Type>()); \
    else                                                \
      r.Set##Name(&message, &field, value.get<Type>()); \
    return {};
    NUMBER(CPPTYPE_INT32, Int32, int32_t)
    NUMBER(CPPTYPE_INT64, Int64, int64_t)
    NUMBER(CPPTYPE_UINT32, UInt32, uint32_t)
    NUMBER(CPPTYPE_UINT64, UInt64, uint64_t)
    NUMBER(CPPTYPE_DOUBLE, Double, double)
    NUMBER(CPPTYPE_FLOAT, Float, float)
#undef NUMBER
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!value.is_boolean()) return WrongKind(field);
      add ? r.AddBool(&message, &field, value.get<bool>()) : r.SetBool(&message, &field, value.get<bool>());
      return {};
    case FieldDescriptor::CPPTYPE_STRING:
      if (!value.is_string()) return WrongKind(field);
      add ? r.AddString(&message, &field, value.get<std::string>())
          : r.SetString(&message, &field, value.get<std::string>());
      return {};
    case FieldDescriptor::CPPTYPE_ENUM: {
      int number = 0;
      if (value.is_number_integer()) {
        number = value.get<int>();
      } else {
        const auto* known = value.is_string() ? field.enum_type()->FindValueByName(value.get<std::string>()) : nullptr;
        if (known == nullptr) return WrongKind(field);
        number = known->number();
      }
      add ? r.AddEnumValue(&message, &field, number) : r.SetEnumValue(&message, &field, number);
      return {};
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return FillMessage(add ? *r.AddMessage(&message, &field) : *r.MutableMessage(&message, &field), value);
  }
  return WrongKind(field);
}

Result<> FillMap(Message& message, const FieldDescriptor& field, const Json& value) {
  if (!value.is_object()) return WrongKind(field);
  const FieldDescriptor& key = *field.message_type()->FindFieldByNumber(1);
  const FieldDescriptor& mapped = *field.message_type()->FindFieldByNumber(2);
  for (const auto& [name, inner] : value.items()) {
    Message& entry = *message.GetReflection()->AddMessage(&message, &field);
    TRY(FillValue(entry, key, Json(name)));
    TRY(FillValue(entry, mapped, inner));
  }
  return {};
}

Result<> FillMessage(Message& message, const Json& value) {
  if (value.is_null()) return {};
  if (!value.is_object()) {
    return Error(Code::kInvalidArgument, StrCat("message ", message.GetDescriptor()->full_name(), ": not an object"));
  }
  for (const auto& [name, inner] : value.items()) {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) {
      return Error(Code::kInvalidArgument,
                   StrCat("message ", message.GetDescriptor()->full_name(), " has no field ", name));
    }
    if (inner.is_null()) continue;
    if (field->is_map()) {
      TRY(FillMap(message, *field, inner));
    } else if (field->is_repeated()) {
      if (!inner.is_array()) return WrongKind(*field);
      for (const Json& element : inner) TRY(FillValue(message, *field, element));
    } else {
      TRY(FillValue(message, *field, inner));
    }
  }
  return {};
}

Json ReadMessage(const Message& message);

Json EnumName(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  return value == nullptr ? Json(number) : Json(value->name());
}

// `index` < 0: a singular field.
Json ReadValue(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
#define READ(kind, Name) \
  case FieldDescriptor::kind: return one ? r.Get##Name(message, &field) : r.GetRepeated##Name(message, &field, index);
    READ(CPPTYPE_INT32, Int32)
    READ(CPPTYPE_INT64, Int64)
    READ(CPPTYPE_UINT32, UInt32)
    READ(CPPTYPE_UINT64, UInt64)
    READ(CPPTYPE_DOUBLE, Double)
    READ(CPPTYPE_FLOAT, Float)
    READ(CPPTYPE_BOOL, Bool)
    READ(CPPTYPE_STRING, String)
#undef READ
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumName(field, one ? r.GetEnumValue(message, &field) : r.GetRepeatedEnumValue(message, &field, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ReadMessage(one ? r.GetMessage(message, &field) : r.GetRepeatedMessage(message, &field, index));
  }
  return {};
}

Json ReadRepeated(const Message& message, const FieldDescriptor& field) {
  const int size = message.GetReflection()->FieldSize(message, &field);
  if (!field.is_map()) {
    Json array = Json::array();
    for (int i = 0; i < size; ++i) array.push_back(ReadValue(message, field, i));
    return array;
  }
  Json object = Json::object();
  for (int i = 0; i < size; ++i) {
    const Message& entry = message.GetReflection()->GetRepeatedMessage(message, &field, i);
    Json key = ReadValue(entry, *field.message_type()->FindFieldByNumber(1), -1);
    object[key.is_string() ? key.get<std::string>() : key.dump()] =
        ReadValue(entry, *field.message_type()->FindFieldByNumber(2), -1);
  }
  return object;
}

Json ReadMessage(const Message& message) {
  Json object = Json::object();
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated()) {
      object[field.name()] = ReadRepeated(message, field);
    } else if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
               message.GetReflection()->HasField(message, &field)) {
      object[field.name()] = ReadValue(message, field, -1);
    }
  }
  return object;
}

}  // namespace

struct Schema::Pool {
  pb::DescriptorPool descriptors;
  pb::DynamicMessageFactory factory{&descriptors};

  Result<std::unique_ptr<Message>> New(const std::string& type) {
    const pb::Descriptor* descriptor = descriptors.FindMessageTypeByName(type);
    if (descriptor == nullptr) return Error(Code::kInvalidArgument, StrCat("no message type ", type));
    return std::unique_ptr<Message>(factory.GetPrototype(descriptor)->New());
  }
};

Schema::Schema() : pool_(std::make_shared<Pool>()) {
  for (std::string_view set : {embedded::CriDescriptors(), embedded::NriDescriptors(), embedded::TtrpcDescriptors()}) {
    pb::FileDescriptorSet files;
    CHECK(files.ParseFromArray(set.data(), static_cast<int>(set.size())));
    for (const auto& file : files.file()) {
      if (pool_->descriptors.FindFileByName(file.name()) == nullptr)
        CHECK(pool_->descriptors.BuildFile(file) != nullptr);
    }
  }
  for (const char* service : {"runtime.v1.RuntimeService", "runtime.v1.ImageService"}) {
    const auto* found = pool_->descriptors.FindServiceByName(service);
    CHECK(found != nullptr);
    for (int i = 0; i < found->method_count(); ++i) {
      const auto& method = *found->method(i);
      methods_.push_back({StrCat("/", service, "/", method.name()), method.input_type()->full_name(),
                          method.output_type()->full_name(), found->name() == "ImageService",
                          method.server_streaming()});
    }
  }
}

const Schema& Schema::Get() {
  static const Schema schema;
  return schema;
}

Result<std::string> Schema::Encode(const std::string& type, const Json& value) const {
  auto message = TRY(pool_->New(type));
  TRY(FillMessage(*message, value));
  return message->SerializeAsString();
}

Result<Json> Schema::Decode(const std::string& type, std::string_view bytes) const {
  auto message = TRY(pool_->New(type));
  if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error(Code::kDataLoss, StrCat("not a message ", type));
  }
  return ReadMessage(*message);
}

const Method* Schema::FindMethod(std::string_view name) const {
  for (const Method& method : methods_) {
    if (std::string_view(method.path).substr(method.path.rfind('/') + 1) == name) return &method;
  }
  return nullptr;
}

const Method* Schema::FindMethodByPath(std::string_view path) const {
  for (const Method& method : methods_) {
    if (method.path == path) return &method;
  }
  return nullptr;
}

}  // namespace crisp::conformance
