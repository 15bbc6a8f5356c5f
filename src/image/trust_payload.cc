#include "image/trust_payload.h"

#include "base/json.h"
#include "base/strings.h"

namespace crisp::image {

namespace {

Error Wrong(std::string_view what) { return Error(Code::kInvalidArgument, StrCat("signature's payload: ", what)); }

// Exactly these members, no other and none missing.
Result<> ExactMembers(const Json& object, std::string_view where, std::initializer_list<const char*> names) {
  if (!object.is_object()) return Wrong(StrCat(where, " is no object"));
  for (const char* name : names) {
    if (!object.contains(name)) return Wrong(StrCat(where, " has no ", Quote(name)));
  }
  if (object.size() != names.size()) return Wrong(StrCat("unknown member in ", where));
  return {};
}

}  // namespace

Result<SignedClaim> ParseSignedClaim(std::string_view payload, SignatureKind kind) {
  const JsonLimits limits{.bytes_max = kSignatureBytesMax, .depth_max = 32, .unique_members = true};
  const Json document = TRY(ParseJson(payload, "signature's payload", limits));
  if (!document.is_object()) return Wrong("no object");
  TRY(ExactMembers(document, "it", {"critical", "optional"}));
  const Json& critical = document.at("critical");
  TRY(ExactMembers(critical, "\"critical\"", {"type", "image", "identity"}));
  TRY(ExactMembers(critical.at("image"), "\"image\"", {"docker-manifest-digest"}));
  TRY(ExactMembers(critical.at("identity"), "\"identity\"", {"docker-reference"}));
  const std::string type = TRY(JsonGet<std::string>(critical, "type"));
  const char* wanted =
      kind == SignatureKind::kOpenPgp ? "atomic container signature" : "cosign container image signature";
  if (type != wanted) return Wrong(StrCat("its type is ", Quote(type), ", not ", Quote(wanted)));
  // "optional" says who signed and when, in members of anybody's choice: only its type is fixed, and cosign writes
  // null.
  const Json& optional = document.at("optional");
  if (!optional.is_object() && !(kind == SignatureKind::kSigstore && optional.is_null())) {
    return Wrong("\"optional\" is no object");
  }
  SignedClaim out;
  const std::string digest = TRY(JsonGet<std::string>(critical.at("image"), "docker-manifest-digest"));
  out.manifest_digest = TRY(oci::Digest::Parse(digest));
  out.reference = TRY(JsonGet<std::string>(critical.at("identity"), "docker-reference"));
  return out;
}

}  // namespace crisp::image
