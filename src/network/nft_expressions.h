// The few nftables expressions that our rules are made of, as netlink attributes (linux/netfilter/nf_tables.h).
// A rule is a list of expressions over registers; `nft --debug=netlink` shows the same for a textual rule.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "sys/netlink.h"

namespace crisp::network {

constexpr uint32_t kRegister1 = 1;    // NFT_REG_1: 16 bytes, as the four 4-byte registers from 8 on
constexpr uint32_t kRegister1b = 9;   // the second 4 bytes of it
constexpr uint32_t kRegister1c = 10;  // the third
constexpr uint32_t kRegister2 = 2;    // the next 16 bytes
constexpr uint32_t kRegister2b = 13;

// Appends expressions to the rule that is open in `batch`.
class NftExpressions {
 public:
  explicit NftExpressions(sys::NetlinkBatch& batch) : batch_(batch) {}

  NftExpressions& Meta(uint32_t key, uint32_t to);
  NftExpressions& SetMark(uint32_t from);
  NftExpressions& Network(uint32_t offset, uint32_t length, uint32_t to);    // load from the network header
  NftExpressions& Transport(uint32_t offset, uint32_t length, uint32_t to);
  NftExpressions& FibDestinationType(uint32_t to);
  NftExpressions& Equal(uint32_t reg, std::string_view bytes);               // else the rule ends
  NftExpressions& MaskAndXor(uint32_t reg, std::string_view mask, std::string_view value);
  NftExpressions& InSet(uint32_t reg, std::string_view set);                 // else the rule ends
  NftExpressions& FromMap(uint32_t reg, std::string_view map, uint32_t to);  // else the rule ends; to 0: verdict
  NftExpressions& DestinationNat(int family, uint32_t address, uint32_t port);
  NftExpressions& Masquerade();
  NftExpressions& Verdict(int code, std::string_view chain = {});

 private:
  NftExpressions& Add(std::string_view name, const std::function<void()>& data);
  void PutData(int type, std::string_view bytes);
  sys::NetlinkBatch& batch_;
};

// A 32 bit attribute; nfnetlink has them big-endian.
void PutBig32(sys::NetlinkBatch& batch, int type, uint32_t value);
void PutVerdict(sys::NetlinkBatch& batch, int code, std::string_view chain);

}  // namespace crisp::network
