#include "codec/websocket_channels.h"

#include <gmock/gmock.h>

namespace crisp::codec {
namespace {

using testing::ElementsAre;

class ChannelDiary : public ChannelReader::Events {
 public:
  void OnChannelData(uint8_t channel, std::string_view data) override {
    std::string start = std::to_string(channel) + ":";
    if (lines.empty() || !lines.back().starts_with(start)) lines.push_back(start);
    lines.back() += data;
  }
  void OnChannelClose(uint8_t channel) override { lines.push_back("close " + std::to_string(channel)); }
  std::vector<std::string> lines;
};

// The message in pieces of any size.
std::vector<std::string> ReadMessages(const WebSocketProtocol& protocol, const std::vector<std::string>& messages,
                              size_t piece_max) {
  ChannelDiary diary;
  ChannelReader reader(protocol, diary);
  for (std::string_view message : messages) {
    do {
      std::string_view piece = message.substr(0, piece_max);
      message.remove_prefix(piece.size());
      if (!reader.Push(piece, message.empty())) return {"refused"};
    } while (!message.empty());
  }
  return diary.lines;
}

TEST(WebSocketChannels, BestCommonProtocol) {
  auto command = [](std::string_view offered) {
    Result<WebSocketProtocol> chosen = ChooseCommandProtocol(offered);
    return chosen ? chosen->name : "none";
  };
  EXPECT_EQ(command("v5.channel.k8s.io"), "v5.channel.k8s.io");
  EXPECT_EQ(command("v4.channel.k8s.io, v5.channel.k8s.io"), "v5.channel.k8s.io");
  EXPECT_EQ(command("base64.channel.k8s.io,v4.base64.channel.k8s.io"), "v4.base64.channel.k8s.io");
  EXPECT_EQ(command("channel.k8s.io"), "channel.k8s.io");
  EXPECT_EQ(command(""), "");
  EXPECT_EQ(command("v6.channel.k8s.io"), "none");
  EXPECT_EQ(command("v4.channel.k8s.io.evil"), "none");
  EXPECT_TRUE(ChooseForwardProtocol("SPDY/3.1+portforward.k8s.io")->tunnel);
  EXPECT_EQ(ChooseForwardProtocol("v4.channel.k8s.io")->name, "v4.channel.k8s.io");
  EXPECT_FALSE(ChooseForwardProtocol("v5.channel.k8s.io"));
}

TEST(WebSocketChannels, MessagesInPieces) {
  WebSocketProtocol binary = *ChooseCommandProtocol("v5.channel.k8s.io");
  WebSocketProtocol base64 = *ChooseCommandProtocol("v4.base64.channel.k8s.io");
  for (size_t piece : {size_t{1}, size_t{2}, size_t{3}, size_t{100}}) {
    EXPECT_THAT(ReadMessages(binary,
                     {MakeChannelMessage(binary, 0, "hello"), MakeChannelMessage(binary, 4, "x"), "",
                      std::string(1, '\1'), MakeChannelClose(0)},
                     piece),
                ElementsAre("0:hello", "4:x", "close 0"));
    for (std::string_view text : {"a", "ab", "abc", "abcd", "abcdefgh"}) {
      EXPECT_THAT(ReadMessages(base64, {MakeChannelMessage(base64, 1, text)}, piece), ElementsAre("1:" + std::string(text)));
    }
  }
}

TEST(WebSocketChannels, Base64IsTheStandardOne) {
  EXPECT_EQ(EncodeBase64(""), "");
  EXPECT_EQ(EncodeBase64("f"), "Zg==");
  EXPECT_EQ(EncodeBase64("fo"), "Zm8=");
  EXPECT_EQ(EncodeBase64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(EncodeBase64("\xff\xfe"), "//4=");
}

TEST(WebSocketChannels, S46BadMessagesAreRefused) {
  WebSocketProtocol binary = *ChooseCommandProtocol("v5.channel.k8s.io");
  WebSocketProtocol base64 = *ChooseCommandProtocol("v4.base64.channel.k8s.io");
  for (std::string message : {"xZg==", "0Zg=", "0Z", "0Zg==Zg==", "0Z!==", "0====", "0=g=="}) {
    EXPECT_THAT(ReadMessages(base64, {message}, 100), ElementsAre("refused")) << message;
    EXPECT_THAT(ReadMessages(base64, {message}, 1), ElementsAre("refused")) << message;
  }
  EXPECT_THAT(ReadMessages(binary, {"\xff\x01\x02"}, 100), ElementsAre("refused"));
}

TEST(WebSocketChannels, PortsAreLittleEndian) {
  WebSocketProtocol binary = *ChooseForwardProtocol("v4.channel.k8s.io");
  EXPECT_EQ(MakePortMessage(binary, 1, 8080), std::string("\x01\x90\x1f", 3));
}

}  // namespace
}  // namespace crisp::codec
