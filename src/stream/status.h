// What the error channel says at the end: a metav1.Status, from which client-go takes the exit code (protocol v4 and
// later); plain text for older ones. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace crisp::stream {

// `outcome`: the exit code of an exec, 0 for what just went well.
std::string StatusText(const Result<int>& outcome, int protocol_version);

struct TerminalSize {
  uint16_t width = 0, height = 0;
};
// Takes resize messages ({"Width":80,"Height":24}, one after the other, in pieces) from the front of `text` and gives
// the last whole one: a flood of them is one resize. What cannot be such a message is dropped.
std::optional<TerminalSize> TakeTerminalSize(std::string& text);

}  // namespace crisp::stream
