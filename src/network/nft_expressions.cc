#include "network/nft_expressions.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <sys/socket.h>

namespace crisp::network {

void PutBig32(sys::NetlinkBatch& batch, int type, uint32_t value) { batch.PutValue<uint32_t>(type, htonl(value)); }

void PutVerdict(sys::NetlinkBatch& batch, int code, std::string_view chain) {
  batch.Nest(NFTA_DATA_VERDICT, [&] {
    PutBig32(batch, NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
    if (!chain.empty()) batch.PutString(NFTA_VERDICT_CHAIN, chain);
  });
}

NftExpressions& NftExpressions::Add(std::string_view name, const std::function<void()>& data) {
  batch_.Nest(NFTA_LIST_ELEM, [&] {
    batch_.PutString(NFTA_EXPR_NAME, name);
    batch_.Nest(NFTA_EXPR_DATA, data);
  });
  return *this;
}

void NftExpressions::PutData(int type, std::string_view bytes) {
  batch_.Nest(type, [&] { batch_.Put(NFTA_DATA_VALUE, bytes); });
}

NftExpressions& NftExpressions::Meta(uint32_t key, uint32_t to) {
  return Add("meta", [&] {
    PutBig32(batch_, NFTA_META_KEY, key);
    PutBig32(batch_, NFTA_META_DREG, to);
  });
}

NftExpressions& NftExpressions::SetMark(uint32_t from) {
  return Add("meta", [&] {
    PutBig32(batch_, NFTA_META_KEY, NFT_META_MARK);
    PutBig32(batch_, NFTA_META_SREG, from);
  });
}

NftExpressions& NftExpressions::Network(uint32_t offset, uint32_t length, uint32_t to) {
  return Add("payload", [&] {
    PutBig32(batch_, NFTA_PAYLOAD_DREG, to);
    PutBig32(batch_, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
    PutBig32(batch_, NFTA_PAYLOAD_OFFSET, offset);
    PutBig32(batch_, NFTA_PAYLOAD_LEN, length);
  });
}

NftExpressions& NftExpressions::Transport(uint32_t offset, uint32_t length, uint32_t to) {
  return Add("payload", [&] {
    PutBig32(batch_, NFTA_PAYLOAD_DREG, to);
    PutBig32(batch_, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
    PutBig32(batch_, NFTA_PAYLOAD_OFFSET, offset);
    PutBig32(batch_, NFTA_PAYLOAD_LEN, length);
  });
}

NftExpressions& NftExpressions::FibDestinationType(uint32_t to) {
  return Add("fib", [&] {
    PutBig32(batch_, NFTA_FIB_DREG, to);
    PutBig32(batch_, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    PutBig32(batch_, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
  });
}

NftExpressions& NftExpressions::Equal(uint32_t reg, std::string_view bytes) {
  return Add("cmp", [&] {
    PutBig32(batch_, NFTA_CMP_SREG, reg);
    PutBig32(batch_, NFTA_CMP_OP, NFT_CMP_EQ);
    PutData(NFTA_CMP_DATA, bytes);
  });
}

NftExpressions& NftExpressions::MaskAndXor(uint32_t reg, std::string_view mask, std::string_view value) {
  return Add("bitwise", [&] {
    PutBig32(batch_, NFTA_BITWISE_SREG, reg);
    PutBig32(batch_, NFTA_BITWISE_DREG, reg);
    PutBig32(batch_, NFTA_BITWISE_LEN, static_cast<uint32_t>(mask.size()));
    PutData(NFTA_BITWISE_MASK, mask);
    PutData(NFTA_BITWISE_XOR, value);
  });
}

NftExpressions& NftExpressions::InSet(uint32_t reg, std::string_view set) {
  return Add("lookup", [&] {
    PutBig32(batch_, NFTA_LOOKUP_SREG, reg);
    batch_.PutString(NFTA_LOOKUP_SET, set);
  });
}

NftExpressions& NftExpressions::FromMap(uint32_t reg, std::string_view map, uint32_t to) {
  return Add("lookup", [&] {
    PutBig32(batch_, NFTA_LOOKUP_SREG, reg);
    PutBig32(batch_, NFTA_LOOKUP_DREG, to);
    batch_.PutString(NFTA_LOOKUP_SET, map);
  });
}

NftExpressions& NftExpressions::DestinationNat(int family, uint32_t address, uint32_t port) {
  return Add("nat", [&] {
    PutBig32(batch_, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    PutBig32(batch_, NFTA_NAT_FAMILY, family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
    PutBig32(batch_, NFTA_NAT_REG_ADDR_MIN, address);
    PutBig32(batch_, NFTA_NAT_REG_PROTO_MIN, port);
  });
}

NftExpressions& NftExpressions::Masquerade() {
  return Add("masq", [] {});
}

NftExpressions& NftExpressions::Verdict(int code, std::string_view chain) {
  return Add("immediate", [&] {
    PutBig32(batch_, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    batch_.Nest(NFTA_IMMEDIATE_DATA, [&] { PutVerdict(batch_, code, chain); });
  });
}

}  // namespace crisp::network
