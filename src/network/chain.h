// A network's plugins one after the other: ADD from first to last, DEL from last to first.
#pragma once

#include <vector>

#include "network/builtin.h"
#include "network/record.h"

namespace crisp::network {

class Chain {
 public:
  // `exec` and `builtin` outlive this. `use_builtin`: whether new attachments are made by built-in plugins.
  Chain(const PluginExec& exec, Builtin& builtin, bool use_builtin, std::string link_alias,
        std::chrono::milliseconds timeout)
      : exec_(exec), builtin_(builtin), use_builtin_(use_builtin), link_alias_(std::move(link_alias)), timeout_(timeout) {}

  // Per plugin: whether ADD will be done by a program.
  std::vector<bool> ByProgram(const NetworkConf& conf) const;
  // kNotFound when a program that the network needs is missing.
  Result<> FindPrograms(const NetworkConf& conf) const;

  // Stops at the first error; the caller then runs Del. `netns`: what was just made for the attachment.
  Result<CniResult> Add(const Ctx& ctx, const Record& record, sys::NewNetns* netns);
  // Each plugin gets a deadline of its own, whatever is left of the caller's. Goes on past a plugin that fails or is
  // missing, and reports the failures together. The namespace is to be removed right after.
  Result<> Del(const Ctx& ctx, const Record& record);
  Result<> Check(const Ctx& ctx, const Record& record);
  // STATUS and GC exist since 1.1.0, and only programs have anything to say.
  Result<> Status(const Ctx& ctx, const NetworkConf& conf);
  Result<> Gc(const Ctx& ctx, const NetworkConf& conf, const std::vector<Attachment>& valid);

 private:
  Result<> DelOne(const Ctx& ctx, const PluginCall& call, bool by_program);

  const PluginExec& exec_;
  Builtin& builtin_;
  const bool use_builtin_;
  const std::string link_alias_;
  const std::chrono::milliseconds timeout_;
};

}  // namespace crisp::network
