// Who a container runs as, by the CRI and by /etc/passwd and /etc/group of its own root file system. Those two files
// are the image's, so they are hostile: opened inside the root only, regular files only, at most 1 MiB (S17).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"

namespace crisp::rootfs {

// USER of an image ("1000", "1000:100", "name", "name:group") taken apart; numbers are strict decimal, 0 … 2³¹-1.
// Texts that another parser may read as a number (sign, 0x, leading zeros, overflow) are refused, never looked up as
// names: an image that maps "4294967296" to root in its /etc/passwd stays non-root for nobody (CVE-2024-40635).
struct UserText {
  std::optional<uint32_t> uid, gid;
  std::string user, group;  // names, where it is not a number; "" = not given
};
Result<UserText> ParseUserText(std::string_view text);

struct UserRequest {
  std::optional<int64_t> run_as_user, run_as_group;
  std::string run_as_username;
  std::vector<int64_t> supplemental_groups;
  // KEP-3619: Merge adds the groups that /etc/group of the image gives to the user; Strict takes the request's only.
  bool merge_image_groups = true;
  std::string image_user;
};

struct User {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> additional_gids;  // sorted, each once, the primary group included (S33)
  std::string home = "/";                 // from /etc/passwd
  std::string name;                       // from /etc/passwd, "" when unknown
};

// `root` is the mounted root file system. kInvalidArgument: a user or group that is no number and not in the files, or
// a number out of range; kFailedPrecondition: /etc/passwd or /etc/group is no regular file or too big.
Result<User> ResolveUser(sys::BorrowedFd root, const UserRequest& request);

// The same from the texts of the two files; pure.
Result<User> ResolveUserIn(std::string_view passwd, std::string_view group, const UserRequest& request);

}  // namespace crisp::rootfs
