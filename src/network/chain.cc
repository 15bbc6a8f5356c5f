#include "network/chain.h"

#include "base/failpoint.h"
#include "base/strings.h"

namespace crisp::network {

std::vector<bool> Chain::ByProgram(const NetworkConf& conf) const {
  std::vector<bool> by_program;
  for (const PluginConf& plugin : conf.plugins) by_program.push_back(!use_builtin_ || !Builtin::Supports(plugin));
  return by_program;
}

Result<> Chain::FindPrograms(const NetworkConf& conf) const {
  std::vector<bool> by_program = ByProgram(conf);
  for (size_t i = 0; i < conf.plugins.size(); ++i) {
    if (by_program[i]) TRY(exec_.Find(conf.plugins[i].type), StrCat("network ", Quote(conf.name)));
  }
  return {};
}

Result<CniResult> Chain::Add(const Ctx& ctx, const Record& record, sys::NewNetns* netns) {
  std::optional<CniResult> result;
  for (size_t i = 0; i < record.conf->plugins.size(); ++i) {
    PluginCall call{.network = *record.conf, .plugin = record.conf->plugins[i], .attachment = &record.attachment,
                    .previous = result ? &*result : nullptr, .netns = netns, .link_alias = link_alias_, .fresh_id = true};
    if (record.by_program[i]) {
      result = TRY(exec_.Add(ctx.WithTimeout(timeout_), call));
    } else {
      result = TRY(builtin_.Add(ctx.WithTimeout(timeout_), call), PluginText(call) + ": ADD");
    }
    FAILPOINT("network.after_plugin_add");
  }
  return *std::move(result);
}

Result<> Chain::DelOne(const Ctx& ctx, const PluginCall& call, bool by_program) {
  if (!by_program) {
    TRY(builtin_.Del(ctx, call, false), PluginText(call) + ": DEL");
    return {};
  }
  Result<std::string> program = exec_.Find(call.plugin.type);
  // The program that made it is gone, but we know how to unmake it.
  if (!program && Builtin::Supports(call.plugin)) {
    TRY(builtin_.Del(ctx, call, true), PluginText(call) + ": DEL");
    return {};
  }
  Result<std::string> ran = exec_.Run(ctx, Verb::kDel, call);
  // It does not speak this version of the specification: neither did it at ADD, which therefore made nothing. Insisting
  // would keep the pod for ever.
  const bool never_added = call.previous == nullptr && !ran && ran.error().code() == Code::kFailedPrecondition;
  if (!ran && !never_added) return std::move(ran).error();
  return {};
}

Result<> Chain::Del(const Ctx& ctx, const Record& record) {
  std::vector<std::string> failures;
  std::optional<Code> code;
  for (size_t i = record.conf->plugins.size(); i-- > 0;) {
    PluginCall call{.network = *record.conf, .plugin = record.conf->plugins[i], .attachment = &record.attachment,
                    .previous = record.result ? &*record.result : nullptr, .netns_dies = true};
    Result<> deleted = DelOne(ctx.Detached(timeout_), call, record.by_program[i]);
    if (!deleted) {
      failures.push_back(deleted.error().message());
      code = code.value_or(deleted.error().code());
    }
    FAILPOINT("network.after_plugin_del");
  }
  if (code) return Error(*code, Join(failures, "; "));
  return {};
}

Result<> Chain::Check(const Ctx& ctx, const Record& record) {
  if (record.conf->disable_check || !CniVersionAtLeast(record.conf->cni_version, "0.4.0")) return {};
  for (size_t i = 0; i < record.conf->plugins.size(); ++i) {
    PluginCall call{.network = *record.conf, .plugin = record.conf->plugins[i], .attachment = &record.attachment,
                    .previous = record.result ? &*record.result : nullptr};
    if (record.by_program[i]) {
      TRY(exec_.Run(ctx.WithTimeout(timeout_), Verb::kCheck, call));
    } else {
      TRY(builtin_.Check(ctx.WithTimeout(timeout_), call), PluginText(call) + ": CHECK");
    }
  }
  return {};
}

Result<> Chain::Status(const Ctx& ctx, const NetworkConf& conf) {
  if (!CniVersionAtLeast(conf.cni_version, "1.1.0")) return {};
  std::vector<bool> by_program = ByProgram(conf);
  for (size_t i = 0; i < conf.plugins.size(); ++i) {
    if (!by_program[i]) continue;
    TRY(exec_.Run(ctx.WithTimeout(timeout_), Verb::kStatus, {.network = conf, .plugin = conf.plugins[i]}));
  }
  return {};
}

Result<> Chain::Gc(const Ctx& ctx, const NetworkConf& conf, const std::vector<Attachment>& valid) {
  if (conf.disable_gc || !CniVersionAtLeast(conf.cni_version, "1.1.0")) return {};
  Json attachments = Json::array();
  for (const Attachment& attachment : valid) {
    attachments.push_back({{"containerID", attachment.container_id}, {"ifname", attachment.ifname}});
  }
  std::vector<bool> by_program = ByProgram(conf);
  std::vector<std::string> failures;
  for (size_t i = 0; i < conf.plugins.size(); ++i) {
    if (!by_program[i]) continue;
    Result<std::string> done = exec_.Run(ctx.WithTimeout(timeout_), Verb::kGc,
                                         {.network = conf, .plugin = conf.plugins[i], .valid_attachments = attachments});
    if (!done) failures.push_back(done.error().message());
  }
  if (!failures.empty()) return Error(Code::kInternal, Join(failures, "; "));
  return {};
}

}  // namespace crisp::network
