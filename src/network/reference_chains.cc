#include "network/reference_chains.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/strings.h"
#include "sys/spawn.h"

namespace crisp::network {

namespace {

constexpr size_t kChainNameMax = 28;

std::string Sha512Hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha512(), nullptr);
  return HexEncode({reinterpret_cast<const char*>(digest), length});
}

}  // namespace

std::vector<std::string> ReferenceChainNames(const std::string& network, const std::string& container_id) {
  const std::string hash = Sha512Hex(network + container_id);
  std::vector<std::string> names;
  for (std::string_view prefix : {"CNI-", "CNI-DN-", "CNI-SN-"}) {
    names.push_back(StrCat(prefix, hash).substr(0, kChainNameMax));
  }
  return names;
}

std::string RemovalScript(std::string_view saved, const std::vector<std::string>& chains) {
  auto is_ours = [&](std::string_view name) { return std::ranges::find(chains, name) != chains.end(); };
  std::string jumps, removals;
  for (std::string_view line : Split(saved, '\n')) {
    std::vector<std::string_view> words = SplitWords(line);
    if (words.empty()) continue;
    if (words[0].starts_with(':') && is_ours(words[0].substr(1))) {
      removals += StrCat("-F ", words[0].substr(1), "\n-X ", words[0].substr(1), "\n");
    } else if (words[0] == "-A" && words.size() > 3 && is_ours(words.back()) && words[words.size() - 2] == "-j") {
      jumps += StrCat("-D", line.substr(line.find("-A") + 2), "\n");
    }
  }
  if (removals.empty() && jumps.empty()) return "";
  // Jumps first: a chain that is jumped to cannot be deleted; and all chains are emptied before one is.
  return StrCat("*nat\n", jumps, removals, "COMMIT\n");
}

Result<> RemoveReferenceChains(const Ctx& ctx, const std::string& network, const std::string& container_id) {
  const std::vector<std::string> chains = ReferenceChainNames(network, container_id);
  for (std::string program : {"iptables", "ip6tables"}) {
    sys::RunOptions options{.output_bytes_max = 64u << 20};
    Result<sys::RunResult> saved = sys::Run(ctx, {.program = program + "-save", .args = {"-t", "nat"}}, options);
    if (!saved && saved.error().code() == Code::kNotFound) continue;
    sys::RunResult listing = TRY(std::move(saved), "list iptables rules");
    if (listing.status.code != 0) continue;  // no nat table of this family in this kernel
    options.input = RemovalScript(listing.out, chains);
    if (options.input.empty()) continue;
    sys::RunResult removed = TRY(sys::Run(ctx, {.program = program + "-restore", .args = {"--noflush", "--wait"}}, options));
    if (removed.status.code != 0) {
      return Error(Code::kInternal, StrCat("remove chains of ", container_id, " by ", program, "-restore: ", Quote(Trim(removed.err))));
    }
  }
  return {};
}

}  // namespace crisp::network
