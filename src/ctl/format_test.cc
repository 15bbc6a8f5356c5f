#include "ctl/format.h"

#include <gmock/gmock.h>

#include "ctl/image_rows.h"
#include "ctl/progress.h"
#include "ctl/table.h"

namespace crisp::ctl {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(HumanDuration, TheWordsThatCrictlUsersKnow) {
  EXPECT_EQ(HumanDuration(milliseconds(999)), "Less than a second");
  EXPECT_EQ(HumanDuration(seconds(1)), "1 second");
  EXPECT_EQ(HumanDuration(seconds(59)), "59 seconds");
  EXPECT_EQ(HumanDuration(seconds(60)), "About a minute");
  EXPECT_EQ(HumanDuration(seconds(120)), "2 minutes");
  EXPECT_EQ(HumanDuration(seconds(59 * 60)), "59 minutes");
  EXPECT_EQ(HumanDuration(hours(1)), "About an hour");
  EXPECT_EQ(HumanDuration(hours(47)), "47 hours");
  EXPECT_EQ(HumanDuration(hours(48)), "2 days");
  EXPECT_EQ(HumanDuration(hours(24 * 14)), "2 weeks");
  EXPECT_EQ(HumanDuration(hours(24 * 70)), "2 months");
  EXPECT_EQ(HumanDuration(hours(24 * 365 * 2)), "2 years");
}

TEST(HumanAgo, ATimeThatIsNotSetIsEmpty) {
  EXPECT_EQ(HumanAgo(0, 5'000'000'000), "");
  EXPECT_EQ(HumanAgo(1'000'000'000, 5'000'000'000), "4 seconds ago");
}

TEST(HumanSize, ThreeDigits) {
  EXPECT_EQ(HumanSize(0), "0B");
  EXPECT_EQ(HumanSize(999), "999B");
  EXPECT_EQ(HumanSize(1000), "1kB");
  EXPECT_EQ(HumanSize(4'261'550), "4.26MB");
  EXPECT_EQ(HumanSize(999'600'000), "1GB");  // not 1e+03MB
  EXPECT_EQ(HumanSize(UINT64_MAX), "18.4EB");
}

TEST(ShortId, WithoutTheAlgorithm) {
  EXPECT_EQ(ShortId("sha256:0123456789abcdef"), "0123456789abc");
  EXPECT_EQ(ShortId("abc"), "abc");
}

TEST(ParseDuration, GoDurationsAndBareSeconds) {
  EXPECT_EQ(*ParseDuration("90"), seconds(90));
  EXPECT_EQ(*ParseDuration("1h30m"), seconds(5400));
  EXPECT_EQ(*ParseDuration("1.5s"), milliseconds(1500));
  EXPECT_EQ(*ParseDuration("100ms"), milliseconds(100));
  EXPECT_EQ(*ParseDuration("3ns"), nanoseconds(3));
  EXPECT_EQ(*ParseDuration("2d"), hours(48));
}

TEST(ParseDuration, RefusesWhatIsNone) {
  for (const char* text : {"", "h", "1x", "-5s", "1h30", "..s", "1e99", "99999999999h", "5 s"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
}

TEST(ParseRfc3339, FractionsAndZones) {
  EXPECT_EQ(*ParseRfc3339("1970-01-01T00:00:01Z"), 1'000'000'000);
  EXPECT_EQ(*ParseRfc3339("2016-10-06T00:17:09.669794202Z"), 1475713029669794202);
  EXPECT_EQ(*ParseRfc3339("2016-10-06T02:17:09.5+02:00"), 1475713029500000000);
  EXPECT_EQ(*ParseRfc3339("2016-10-05T19:17:09-05:00"), 1475713029000000000);
  for (const char* text : {"", "2016-10-06", "2016-10-06T00:17:09", "2016-13-06T00:17:09Z", "2016-10-06T00:17:09.Z",
                           "2016-10-06T00:17:09Zx", "2016-10-06T24:17:09Z"}) {
    EXPECT_FALSE(ParseRfc3339(text)) << text;
  }
}

TEST(ParseSince, TimeSecondsOrAgo) {
  constexpr int64_t kNow = 2'000'000'000'000'000'000;
  EXPECT_EQ(*ParseSince("10m", kNow), kNow - 600'000'000'000);
  EXPECT_EQ(*ParseSince("1475713029", kNow), 1475713029000000000);
  EXPECT_EQ(*ParseSince("30", kNow), kNow - 30'000'000'000);
  EXPECT_EQ(*ParseSince("2016-10-06T00:17:09Z", kNow), 1475713029000000000);
  EXPECT_FALSE(ParseSince("yesterday", kNow));
}

TEST(ParseBytes, PowersOf1024) {
  EXPECT_EQ(*ParseBytes("512"), 512);
  EXPECT_EQ(*ParseBytes("64Mi"), 64 << 20);
  EXPECT_EQ(*ParseBytes("64m"), 64 << 20);
  EXPECT_EQ(*ParseBytes("1.5GB"), int64_t{3} << 29);
  for (const char* text : {"", "M", "5x", "-1", "1MiB", "99999999999T"}) EXPECT_FALSE(ParseBytes(text)) << text;
}

TEST(Table, ColumnsLineUpAndNoLineEndsInBlanks) {
  Table table({"A", "LONG NAME", "C"});
  table.Add({"1234", "x", ""});
  table.Add({"\u00e9", "y", "z"});  // one column wide, two bytes
  EXPECT_EQ(table.Render(Colours::kOff),
            "A      LONG NAME   C\n"
            "1234   x\n"
            "\u00e9      y           z\n");
}

TEST(Table, ColourDoesNotCountForWidthAndIsOffWithoutTerminal) {
  Table table({"STATE", "N"});
  table.Add({Cell("Ready", Colour::kGreen), "1"});
  EXPECT_EQ(table.Render(Colours::kOn), "STATE   N\n\033[32mReady\033[0m   1\n");
  EXPECT_EQ(table.Render(Colours::kOff), "STATE   N\nReady   1\n");
}

// S57: a name must not steer the terminal that shows it.
TEST(Table, ControlCharactersInCellsAreShownNotSent) {
  Table table({"NAME"});
  table.Add({"a\033[2Jb\nc\177"});
  EXPECT_EQ(table.Render(Colours::kOn), "NAME\na?[2Jb?c?\n");
}

::runtime::v1::Image MakeImage(const char* id, std::vector<std::string> tags, std::vector<std::string> digests) {
  ::runtime::v1::Image image;
  image.set_id(id);
  for (auto& tag : tags) image.add_repo_tags(tag);
  for (auto& digest : digests) image.add_repo_digests(digest);
  return image;
}

TEST(ImageRows, OnePerTagAndOneForAnImageWithoutTags) {
  std::vector<::runtime::v1::Image> images = {
      MakeImage("b", {"host:5000/b:1", "host:5000/b:2"}, {"host:5000/b@sha256:bb"}),
      MakeImage("a", {}, {"docker.io/library/a@sha256:aa"}), MakeImage("n", {}, {})};
  auto rows = ImageRows(images);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].repository, "<none>");
  EXPECT_EQ(rows[1].repository, "docker.io/library/a");
  EXPECT_EQ(rows[1].tag, "<none>");
  EXPECT_EQ(rows[1].digest, "sha256:aa");
  EXPECT_EQ(rows[2].repository, "host:5000/b");  // the port's colon is no tag's
  EXPECT_EQ(rows[3].tag, "2");
  EXPECT_EQ(rows[3].digest, "sha256:bb");
}

TEST(SelectImages, DanglingAndReference) {
  std::vector<::runtime::v1::Image> images = {MakeImage("b", {"x/b:1"}, {}), MakeImage("a", {}, {"x/a@sha256:aa"})};
  EXPECT_EQ(SelectImages(images, {"dangling=true"})->at(0).id(), "a");
  EXPECT_EQ(SelectImages(images, {"reference=b:.$"})->at(0).id(), "b");
  EXPECT_TRUE(SelectImages(images, {"reference=b", "dangling=true"})->empty());
  EXPECT_FALSE(SelectImages(images, {"colour=x"}));
  EXPECT_FALSE(SelectImages(images, {"reference=("}));
}

TEST(ProgressLines, OnePerLayerAndASumWithinTheWidth) {
  ::crisp::v1::PullUpdate update;
  auto* layer = update.add_layers();
  layer->set_digest("sha256:0123456789abcdef");
  layer->set_bytes_done(50'000'000);
  layer->set_bytes_total(100'000'000);
  layer->set_phase(::crisp::v1::LayerProgress::FETCHING);
  auto lines = ProgressLines(update, seconds(2), 25'000'000, 80);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], testing::StartsWith("0123456789abc [==================="));
  EXPECT_THAT(lines[0], testing::HasSubstr("50MB / 100MB"));
  EXPECT_THAT(lines[1], testing::HasSubstr("25MB/s"));
  for (size_t width : {10u, 40u, 61u, 200u}) {
    for (const auto& line : ProgressLines(update, seconds(2), 25'000'000, width)) EXPECT_LE(line.size(), width);
  }
}

TEST(SelectImages, BeforeAndSinceArePlacesInTheSortedList) {
  std::vector<::runtime::v1::Image> images(3);
  const char* names[] = {"c:1", "a:1", "b:1"};
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].add_repo_tags(names[i]);
    images[i].set_id("sha256:" + std::string(names[i]).substr(0, 1));
  }
  SortImages(images);
  auto names_of = [&](const std::string& filter) {
    auto selected = SelectImages(images, {filter});
    std::string out;
    for (const auto& image : *selected) out += image.repo_tags(0) + " ";
    return out;
  };
  EXPECT_EQ(names_of("since=c:1"), "a:1 b:1 ");
  EXPECT_EQ(names_of("before=a:1"), "b:1 c:1 ");
  EXPECT_EQ(names_of("before=b"), "c:1 ");
  EXPECT_EQ(names_of("since=missing:1"), "a:1 b:1 c:1 ");
}

}  // namespace
}  // namespace crisp::ctl
