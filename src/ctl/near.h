// What somebody may have meant who wrote something that is not there. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace crisp::ctl {

// Those of `known` that `text` is a part of, or that a few letters make of it; the nearest first, at most `most`.
std::vector<std::string> NearMisses(std::string_view text, const std::vector<std::string>& known, size_t most = 3);
// `, did you mean "web" or "webs"?`; empty without `near`.
std::string DidYouMean(const std::vector<std::string>& near);

}  // namespace crisp::ctl
