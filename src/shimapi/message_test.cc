#include "shimapi/message.h"

#include <gtest/gtest.h>

#include <random>

#include "base/strings.h"

namespace crisp::shimapi {
namespace {

SetupPod Pod() {
  SetupPod pod;
  pod.own_ipc = true;
  pod.shared_pid = true;
  pod.oom_score_adj = -998;
  pod.hostname = "web";
  pod.netns_path = "/n";
  pod.sysctls = {{"a.b", "1"}};
  return pod;
}

HelloReply Report() {
  HelloReply reply;
  reply.version = "1.2";
  reply.shim_pid = 77;
  reply.set_up = true;
  reply.net = "/n";
  reply.ipc = "/i";
  ContainerState state;
  state.id = "c";
  state.phase = ContainerState::kExited;
  state.pid = 5;
  state.code = 137;
  state.signal = 9;
  state.oom_killed = true;
  state.finished_at_unix_nanos = 0x0102030405060708;
  state.log_bytes_lost = 3;
  reply.containers = {state};
  return reply;
}

// The bytes are a contract with shims of other versions: if one of these fails, an old shim would misread a new crispd. Add
// fields at the end of a message and leave these expectations as prefixes (docs/formats/shim-protocol.md).
TEST(ShimMessage, GoldenSetupPod) {
  Result<std::string> bytes = Encode(9, Pod());
  ASSERT_TRUE(bytes);
  EXPECT_EQ(HexEncode(*bytes),
            "43534831"
            "3d000000"
            "0200"
            "0000"
            "09000000"  // magic, length, type, flags, sequence number
            "01"
            "00"
            "01"
            "1afcffff"  // own_ipc, own_uts, shared_pid, oom_score_adj
            "03000000"
            "776562"
            "02000000"
            "2f6e"  // hostname, netns_path
            "01000000"
            "0c000000"
            "03000000"
            "612e62"
            "01000000"
            "31"
            "00"
            "00000000");  // sysctls: one, of 12 bytes
}

TEST(ShimMessage, GoldenHelloReply) {
  Result<std::string> bytes = Encode(1, Report());
  ASSERT_TRUE(bytes);
  EXPECT_EQ(HexEncode(*bytes),
            "43534831" "5f000000" "4200" "0000" "01000000"
            "03000000" "312e32" "4d000000" "01" "02000000" "2f6e" "02000000" "2f69" "00000000" "00000000"
            "01000000" "23000000"                             // one container, 35 bytes
            "01000000" "63" "02" "05000000" "89000000" "09000000" "01" "0807060504030201" "0300000000000000" "00000000");
}

TEST(ShimMessage, GoldenStartContainer) {
  StartContainer start;
  start.id = "c";
  start.argv = {"runc", "run"};
  start.pid_file = "p";
  start.log_path = "l";
  start.terminal = true;
  start.console_socket = "t";
  start.oom_event_files = {"o"};
  EXPECT_EQ(HexEncode(Encode(2, start).value()),
            "43534831" "44000000" "0300" "0000" "02000000"
            "01000000" "63" "02000000" "04000000" "72756e63" "03000000" "72756e" "01000000" "70" "01000000" "6c"
            "01" "00" "00" "01000000" "74" "01000000" "01000000" "6f" "00");
}

TEST(ShimMessage, GoldenStartExec) {
  StartExec start;
  start.exec = 0x1122334455667788;
  start.container = "c";
  start.argv = {"x"};
  start.cgroup_dirs = {"/g"};
  EXPECT_EQ(HexEncode(Encode(2, start).value()),
            "43534831" "39000000" "0700" "0000" "02000000"
            "8877665544332211" "01000000" "63" "01000000" "01000000" "78" "00000000" "01000000" "02000000" "2f67" "00" "00000000");
}

TEST(ShimMessage, GoldenRest) {
  EXPECT_EQ(HexEncode(Encode(3, Shutdown()).value()), "43534831" "10000000" "0a00" "0000" "03000000");
  EXPECT_EQ(HexEncode(Encode(3, Ok()).value()), "43534831" "10000000" "4000" "0000" "03000000");
  EXPECT_EQ(HexEncode(Encode(3, Started{5}).value()), "43534831" "14000000" "4300" "0000" "03000000" "05000000");
  EXPECT_EQ(HexEncode(Encode(3, Cancel{5}).value()), "43534831" "14000000" "0900" "0000" "03000000" "05000000");
  EXPECT_EQ(HexEncode(Encode(3, KillExec{5}).value()), "43534831" "18000000" "0800" "0000" "03000000" "0500000000000000");
  EXPECT_EQ(HexEncode(Encode(3, SignalContainer{"c", 9}).value()),
            "43534831" "19000000" "0400" "0000" "03000000" "01000000" "63" "09000000");
  EXPECT_EQ(HexEncode(Encode(3, ReopenLog{"c"}).value()), "43534831" "15000000" "0500" "0000" "03000000" "01000000" "63");
  EXPECT_EQ(HexEncode(Encode(3, ForgetContainer{"c"}).value()), "43534831" "15000000" "0600" "0000" "03000000" "01000000" "63");
  EXPECT_EQ(HexEncode(Encode(3, PrepareContainer{"c", true, false}).value()),
            "43534831" "17000000" "0e00" "0000" "03000000" "01000000" "63" "01" "00");
  EXPECT_EQ(HexEncode(Encode(3, Hello{"1"}).value()), "43534831" "15000000" "0100" "0000" "03000000" "01000000" "31");
  EXPECT_EQ(HexEncode(Encode(0, ExecExited{5, 1, 2}).value()),
            "43534831" "20000000" "6100" "0000" "00000000" "0500000000000000" "01000000" "02000000");
  ErrorReply error;
  error.code = 5;
  error.message = "m";
  error.from_runtime = true;
  EXPECT_EQ(HexEncode(Encode(3, error).value()),
            "43534831" "22000000" "4100" "0000" "03000000" "05000000" "00000000" "01000000" "6d" "00000000" "01");
}

TEST(ShimMessage, GoldenAttach) {
  Attach attach;
  attach.attach = 0x1122334455667788;
  attach.container = "c";
  attach.in = true;
  attach.err = true;
  EXPECT_EQ(HexEncode(Encode(2, attach).value()),
            "43534831" "20000000" "0b00" "0000" "02000000" "8877665544332211" "01000000" "63" "01" "00" "01");
  EXPECT_EQ(HexEncode(Encode(2, Attached{.terminal = true, .out = true}).value()),
            "43534831" "14000000" "4400" "0000" "02000000" "01" "00" "01" "00");
  EXPECT_EQ(HexEncode(Encode(3, Detach{5}).value()),
            "43534831" "18000000" "0c00" "0000" "03000000" "0500000000000000");
  EXPECT_EQ(HexEncode(Encode(3, ResizeTerminal{"c", 80, 0x1234}).value()),
            "43534831" "19000000" "0d00" "0000" "03000000" "01000000" "63" "5000" "3412");
  AttachEnded ended;
  ended.attach = 5;
  ended.reason = AttachEnded::kNotReading;
  ended.code = 137;
  ended.signal = 9;
  EXPECT_EQ(HexEncode(Encode(0, ended).value()),
            "43534831" "21000000" "6200" "0000" "00000000" "0500000000000000" "01" "89000000" "09000000");
}

TEST(ShimMessage, WhatIsSentArrives) {
  std::string bytes = Encode(4, Report()).value();
  EXPECT_EQ(DecodeHeader(bytes)->type, Type::kHelloReply);
  EXPECT_EQ(DecodeHeader(bytes)->seq, 4u);
  Result<HelloReply> reply = Decode<HelloReply>(bytes);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->version, "1.2");
  ASSERT_EQ(reply->containers.size(), 1u);
  EXPECT_EQ(reply->containers[0].finished_at_unix_nanos, 0x0102030405060708);
  EXPECT_TRUE(reply->containers[0].oom_killed);
  EXPECT_EQ(Encode(4, *reply).value(), bytes);
  EXPECT_EQ(Decode<SetupPod>(Encode(1, Pod()).value())->oom_score_adj, -998);
}

// Row S30: nothing wraps at any width, and what does not fit is refused by the sender.
TEST(ShimMessage, LongValuesAreRefusedNotWrapped) {
  StartContainer start;
  start.log_path = std::string(kMessageBytesMax + 5, 'x');
  EXPECT_EQ(Encode(1, start).error().code(), Code::kResourceExhausted);
  start.log_path.clear();
  start.argv.assign(20'000, "x");
  EXPECT_EQ(Encode(1, start).error().code(), Code::kResourceExhausted);
  start.argv.assign(10'000, "x");
  Result<StartContainer> back = Decode<StartContainer>(Encode(1, start).value());
  ASSERT_TRUE(back);
  EXPECT_EQ(back->argv.size(), 10'000u);
}

std::string Patched(std::string bytes, size_t at, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

TEST(ShimMessage, LyingLengthsAreRefused) {
  std::string bytes = Encode(1, Pod()).value();
  constexpr size_t kHostname = 16 + 7, kSysctls = kHostname + 4 + 3 + 4 + 2;
  for (uint32_t lie : {100u, 0x7fffffffu, 0x80000000u, 0xffffffffu, 0xfffffffcu}) {
    EXPECT_FALSE(Decode<SetupPod>(Patched(bytes, kHostname, lie))) << lie;
    EXPECT_FALSE(Decode<SetupPod>(Patched(bytes, kSysctls, lie))) << lie;
    EXPECT_FALSE(Decode<SetupPod>(Patched(bytes, kSysctls + 4, lie))) << lie;
    EXPECT_FALSE(Decode<SetupPod>(Patched(bytes, 4, lie))) << "length of the message " << lie;
  }
  bytes[16] = 2;
  EXPECT_FALSE(Decode<SetupPod>(bytes)) << "neither true nor false";
}

std::string Resized(std::string bytes, size_t size) {
  bytes.resize(size, '\x5a');
  return Patched(bytes, 4, static_cast<uint32_t>(size));
}

TEST(ShimMessage, OlderAndNewerPeers) {
  std::string bytes = Encode(1, Pod()).value();
  // A newer peer's message: longer.
  Result<SetupPod> newer = Decode<SetupPod>(Resized(bytes, bytes.size() + 11));
  ASSERT_TRUE(newer);
  EXPECT_EQ(newer->hostname, "web");
  // An older peer's: it ends at the border of some field.
  Result<SetupPod> older = Decode<SetupPod>(Resized(bytes, 16 + 7 + 4 + 3));
  ASSERT_TRUE(older);
  EXPECT_EQ(older->hostname, "web");
  EXPECT_TRUE(older->sysctls.empty());
  // Inside a field nobody's message ends.
  EXPECT_FALSE(Decode<SetupPod>(Resized(bytes, 16 + 7 + 4 + 2)));
  EXPECT_FALSE(Decode<SetupPod>(Resized(bytes, 16 + 5)));
  // The same within a list's items.
  std::string report = Encode(1, Report()).value();
  EXPECT_FALSE(Decode<HelloReply>(Resized(report, report.size() - 8)));
}

TEST(ShimMessage, ForeignBytesAreRefused) {
  EXPECT_FALSE(DecodeHeader(""));
  EXPECT_FALSE(DecodeHeader(std::string(16, '\0')));
  EXPECT_FALSE(DecodeHeader("GET / HTTP/1.1\r\n\r\n"));
  std::string ok = Encode(1, Ok()).value();
  EXPECT_FALSE(DecodeHeader(std::string_view(ok).substr(0, 15)));
  EXPECT_FALSE(Decode<SetupPod>(ok)) << "another type";
}

TEST(ShimMessage, RandomBytesNeverHurt) {
  std::mt19937 random(11);
  std::string valid = Encode(1, Report()).value(), other = Encode(1, Pod()).value();
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = i % 2 ? valid : other;
    for (int changes = 1 + static_cast<int>(random() % 4); changes > 0; --changes) {
      bytes[8 + random() % (bytes.size() - 8)] = static_cast<char>(random());
    }
    bytes[8] = static_cast<char>(i % 2 ? Type::kHelloReply : Type::kSetupPod);
    bytes[9] = 0;
    if (i % 2) {
      (void)Decode<HelloReply>(bytes).has_value();
    } else {
      (void)Decode<SetupPod>(bytes).has_value();
    }
  }
}

}  // namespace
}  // namespace crisp::shimapi
