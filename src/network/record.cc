#include "network/record.h"

#include <openssl/evp.h>

#include "base/strings.h"

namespace crisp::network {

Result<std::shared_ptr<const NetworkConf>> SharedConfs::Of(std::string_view text, std::string file, std::string_view what) {
  std::string key = StrCat(file, std::string_view("\0", 1), text);
  {
    auto known = by_file_and_text_.Lock();
    if (auto found = known->find(key); found != known->end()) return found->second;
  }
  NetworkConf conf = TRY(ParseNetworkConf(text, what));
  conf.file = std::move(file);
  auto shared = std::make_shared<const NetworkConf>(std::move(conf));
  return by_file_and_text_.Lock()->emplace(std::move(key), std::move(shared)).first->second;
}

std::string EncodeRecord(const Record& record) {
  Json json{{"conflist", record.conf->text},
            {"file", record.conf->file},
            {"netns", record.attachment.netns},
            {"ifName", record.attachment.ifname},
            {"args", record.attachment.args},
            {"capabilityArgs", record.attachment.capability_args},
            {"byProgram", record.by_program}};
  if (!record.attachment.host_link.empty()) json["hostLink"] = record.attachment.host_link;
  // The newest version of the specification holds all that the older ones do.
  if (record.result) json["result"] = CniResultJson(*record.result, "1.1.0").value();
  return DumpJson(json);
}

Result<Record> DecodeRecord(const std::string& key, std::string_view value, SharedConfs& confs) {
  Record record;
  record.pod = TRY(PodId::Parse(key));
  Json json = TRY(ParseJson(value, "network record " + key));
  std::string conflist = TRY(JsonGet<std::string>(json, "conflist"));
  std::string file = TRY(JsonGet<std::string>(json, "file"));
  std::string what = "conflist of network record " + key;
  record.conf = TRY(confs.Of(conflist, std::move(file), what));
  record.attachment.container_id = key;
  record.attachment.netns = TRY(JsonGet<std::string>(json, "netns"));
  record.attachment.ifname = TRY(JsonGet<std::string>(json, "ifName"));
  record.attachment.args = TRY(JsonGet<std::string>(json, "args"));
  record.attachment.host_link = TRY(JsonGet<std::string>(json, "hostLink", ""));
  if (json.contains("capabilityArgs") && json["capabilityArgs"].is_object()) {
    record.attachment.capability_args = json["capabilityArgs"];
  }
  for (const Json& flag : json.value("byProgram", Json::array())) {
    if (!flag.is_boolean()) return Error(Code::kInvalidArgument, "byProgram is not a list of booleans");
    record.by_program.push_back(flag.get<bool>());
  }
  if (record.by_program.size() != record.conf->plugins.size() || record.attachment.ifname.empty()) {
    return Error(Code::kInvalidArgument, "network record " + key + " is incomplete");
  }
  if (json.contains("result")) record.result = TRY(ParseCniResult(json["result"]));
  return record;
}

std::string CacheFileName(const Record& record) {
  return StrCat(record.conf->name, "-", record.attachment.container_id, "-", record.attachment.ifname);
}

std::string CacheFileText(const Record& record) {
  std::string config(4 * (record.conf->text.size() + 2) / 3 + 1, '\0');
  config.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(config.data()),
                                                    reinterpret_cast<const unsigned char*>(record.conf->text.data()),
                                                    static_cast<int>(record.conf->text.size()))));
  Json args = Json::array();
  for (std::string_view part : Split(record.attachment.args, ';')) {
    size_t equals = part.find('=');
    if (equals != std::string_view::npos) args.push_back(Json::array({part.substr(0, equals), part.substr(equals + 1)}));
  }
  Json json{{"kind", "cniCacheV1"},
            {"containerId", record.attachment.container_id},
            {"config", config},
            {"ifName", record.attachment.ifname},
            {"networkName", record.conf->name},
            {"netns", record.attachment.netns},
            {"cniArgs", std::move(args)},
            {"capabilityArgs", record.attachment.capability_args}};
  if (record.result) {
    Result<Json> result = CniResultJson(*record.result, record.conf->cni_version);
    if (result) json["result"] = *std::move(result);
  }
  return DumpJson(json);
}

}  // namespace crisp::network
