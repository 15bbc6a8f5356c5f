#include "network/host_local.h"

#include <dirent.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/failpoint.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::network {

namespace {

using sys::IpAddress;
using sys::IpPrefix;

constexpr const char* kDefaultDataDir = "/var/lib/cni/networks";
constexpr size_t kSetsMax = 64;

Error Bad(std::string text) { return Error(Code::kInvalidArgument, "host-local: " + std::move(text)); }

Result<IpAddress> AddressIn(const Json& json, const char* key, const IpPrefix& subnet, const IpAddress& fallback) {
  std::string text = TRY(JsonGet<std::string>(json, key));
  if (text.empty()) return fallback;
  IpAddress address = TRY(IpAddress::Parse(text), key);
  if (!subnet.Contains(address)) return Bad(StrCat(key, " ", text, " is not in ", subnet.Text()));
  return address;
}

Result<IpRange> ParseRange(const Json& json) {
  IpRange range;
  range.subnet = TRY(IpPrefix::Parse(TRY(JsonGet<std::string>(json, "subnet"))), "subnet");
  if (range.subnet.address != range.subnet.Network()) return Bad(StrCat("subnet ", range.subnet.Text(), " has host bits set"));
  const int bits = static_cast<int>(range.subnet.address.size() * 8);
  if (range.subnet.length > bits - 2) return Bad(StrCat("subnet ", range.subnet.Text(), " is too small to allocate from"));
  const IpAddress first = range.subnet.Network().Next();
  // The last address of an IPv4 network is its broadcast address.
  const IpAddress last = range.subnet.address.v4() ? range.subnet.Last().Previous() : range.subnet.Last();
  range.gateway = TRY(AddressIn(json, "gateway", range.subnet, first));
  range.start = TRY(AddressIn(json, "rangeStart", range.subnet, first));
  range.end = TRY(AddressIn(json, "rangeEnd", range.subnet, last));
  if (range.end < range.start) return Bad(StrCat("range of ", range.subnet.Text(), " ends before it starts"));
  return range;
}

bool Overlap(const IpRange& a, const IpRange& b) {
  return a.start.family() == b.start.family() && a.start <= b.end && b.start <= a.end;
}

Result<IpRangeSet> ParseSet(const Json& json) {
  if (!json.is_array() || json.empty() || json.size() > kSetsMax) return Bad("a range set is a list of ranges");
  IpRangeSet set;
  for (const Json& item : json) {
    IpRange range = TRY(ParseRange(item));
    if (!set.empty() && set[0].start.family() != range.start.family()) return Bad("mixed address families in one range set");
    if (std::ranges::any_of(set, [&](const IpRange& other) { return Overlap(range, other); })) {
      return Bad(StrCat("range ", range.subnet.Text(), " overlaps with another"));
    }
    set.push_back(range);
  }
  return set;
}

Result<> ParseSets(const Json& object, const char* key, std::vector<IpRangeSet>& sets) {
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  if (!found->is_array() || found->size() > kSetsMax) return Bad(StrCat(key, " is not a list of range sets"));
  for (const Json& item : *found) sets.push_back(TRY(ParseSet(item)));
  return {};
}

Result<> ParseRequested(const Json& object, const char* key, std::vector<IpAddress>& requested) {
  for (const std::string& text : TRY(JsonGet<std::vector<std::string>>(object, key))) {
    requested.push_back(TRY(IpAddress::Parse(std::string_view(text).substr(0, text.find('/'))), key));
  }
  return {};
}

// An object inside an object, or an empty one.
Result<Json> Inner(const Json& object, const char* key) {
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return Json::object();
  if (!found->is_object()) return Bad(StrCat(key, " is not an object"));
  return *found;
}

Result<> ParseRequests(const Json& conf, std::string_view cni_args, HostLocalConf& out) {
  for (std::string_view part : Split(cni_args, ';')) {
    if (part.starts_with("IP=") || part.starts_with("ip=")) out.requested.push_back(TRY(IpAddress::Parse(part.substr(3)), "CNI_ARGS"));
  }
  TRY(ParseRequested(TRY(Inner(TRY(Inner(conf, "args")), "cni")), "ips", out.requested));
  return ParseRequested(TRY(Inner(conf, "runtimeConfig")), "ips", out.requested);
}

}  // namespace

bool HostLocalSupports(const Json& ipam) {
  static const std::set<std::string> kKnown = {"type", "name", "routes", "dataDir", "resolvConf", "ranges", "rangeStart",
                                               "rangeEnd", "subnet", "gateway"};
  if (!ipam.is_object()) return false;
  for (const auto& [key, value] : ipam.items()) {
    if (!kKnown.contains(key)) return false;
  }
  return true;
}

Result<HostLocalConf> ParseHostLocalConf(const Json& conf, std::string_view cni_args) {
  HostLocalConf out;
  Json ipam = TRY(Inner(conf, "ipam"));
  std::string data_dir = TRY(JsonGet<std::string>(ipam, "dataDir"));
  std::string name = TRY(JsonGet<std::string>(conf, "name"));
  if (name.empty() || name.find('/') != std::string::npos) return Bad("the network has no name");
  out.dir = StrCat(data_dir.empty() ? kDefaultDataDir : data_dir, "/", name);
  // The order is the reference's: it numbers the last_reserved_ip files.
  TRY(ParseSets(TRY(Inner(conf, "runtimeConfig")), "ipRanges", out.sets));
  if (ipam.contains("subnet")) out.sets.push_back({TRY(ParseRange(ipam))});
  TRY(ParseSets(ipam, "ranges", out.sets));
  if (out.sets.empty()) return Bad("no address ranges");
  for (size_t i = 0; i < out.sets.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      for (const IpRange& a : out.sets[i]) {
        if (std::ranges::any_of(out.sets[j], [&](const IpRange& b) { return Overlap(a, b); })) {
          return Bad(StrCat("range sets ", j, " and ", i, " overlap"));
        }
      }
    }
  }
  out.routes = TRY(ParseCniRoutes(ipam, "routes"), "host-local");
  out.resolv_conf = TRY(JsonGet<std::string>(ipam, "resolvConf"));
  TRY(ParseRequests(conf, cni_args, out));
  return out;
}

namespace {

// The directory of a network, locked as long as this lives.
class Store {
 public:
  static Result<Store> Lock(const Ctx& ctx, const std::string& dir) {
    TRY(sys::MakeDirs(dir, 0755));
    sys::UniqueFd directory = TRY(sys::Open(dir, O_RDONLY | O_DIRECTORY));
    sys::UniqueFd lock = TRY(sys::OpenAt(directory, "lock", O_RDONLY | O_CREAT | O_NOFOLLOW, 0600));
    // flock has no timeout and no event to wait for; whoever holds it does so for a moment only.
    while (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return Errno(errno, StrCat("lock ", dir, "/lock"));
      TRY(ctx.Check(), StrCat("host-local: ", dir, "/lock is held by another process"));
      poll(nullptr, 0, 1);
    }
    return Store(dir, std::move(directory), std::move(lock));
  }

  // Whether the address was free and is now theirs. The file gets its name when the holder is in it: who dies in between
  // leaves nothing, where an empty file would be an address that nobody gives back.
  Result<bool> Reserve(const IpAddress& address, const std::string& holder) {
    std::string name = address.Text();
    sys::UniqueFd fd = TRY(sys::OpenAt(directory_, ".", O_WRONLY | O_TMPFILE, 0644));
    TRY(sys::WriteAll(fd, holder), StrCat("reserve ", dir_, "/", name));
    FAILPOINT("network.within_reserve");
    std::string nameless = StrCat("/proc/self/fd/", fd.get());
    if (linkat(AT_FDCWD, nameless.c_str(), directory_.get(), name.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
    if (errno == EEXIST) return false;
    return Errno(errno, StrCat("reserve ", dir_, "/", name));
  }

  std::optional<IpAddress> LastReserved(size_t set) {
    Result<std::string> text = Read(LastName(set));
    if (!text) return std::nullopt;
    Result<IpAddress> address = IpAddress::Parse(Trim(*text));
    return address ? std::optional(*address) : std::nullopt;
  }

  Result<> SetLastReserved(size_t set, const IpAddress& address) {
    // A hint: torn or lost it costs a longer search, so it is simply overwritten.
    sys::UniqueFd fd = TRY(sys::OpenAt(directory_, LastName(set), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
    return sys::WriteAll(fd, address.Text());
  }

  bool HeldBy(const std::string& name, const std::string& holder) {
    Result<std::string> text = Read(name);
    return text && Trim(*text) == holder;
  }

  Result<> Release(const std::string& name) {
    if (unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) return Errno(errno, StrCat("release ", dir_, "/", name));
    return {};
  }

  // Names of all addresses that `holder` has.
  Result<std::vector<std::string>> Search(const std::string& holder) {
    int copy = fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0);
    DIR* stream = copy < 0 ? nullptr : fdopendir(copy);
    if (stream == nullptr) {
      if (copy >= 0) close(copy);
      return Errno(errno, "read directory " + dir_);
    }
    rewinddir(stream);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(stream)) {
      std::string name = entry->d_name;
      if (IpAddress::Parse(name) && HeldBy(name, holder)) names.push_back(std::move(name));
    }
    closedir(stream);
    return names;
  }

 private:
  Store(std::string dir, sys::UniqueFd directory, sys::UniqueFd lock)
      : dir_(std::move(dir)), directory_(std::move(directory)), lock_(std::move(lock)) {}
  static std::string LastName(size_t set) { return StrCat("last_reserved_ip.", set); }
  Result<std::string> Read(const std::string& name) {
    return sys::ReadAll(TRY(sys::OpenAt(directory_, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)), 4096);
  }

  std::string dir_;
  sys::UniqueFd directory_;
  sys::UniqueFd lock_;
};

std::string Holder(const Attachment& attachment) { return StrCat(attachment.container_id, "\r\n", attachment.ifname); }

const IpRange* RangeFor(const IpRangeSet& set, const IpAddress& address) {
  auto found = std::ranges::find_if(set, [&](const IpRange& range) { return range.Contains(address); });
  return found == set.end() ? nullptr : &*found;
}

// All addresses of a set, once each, from behind the last reserved one on and round: an address is used again as late
// as possible.
class RoundRobin {
 public:
  RoundRobin(const IpRangeSet& set, std::optional<IpAddress> last) : set_(set) {
    const IpRange* range = last ? RangeFor(set, *last) : nullptr;
    if (range != nullptr) {
      range_ = static_cast<size_t>(range - set.data());
      current_ = *last;
      Advance();
    } else {
      current_ = set[0].start;
    }
    first_ = current_;
  }

  // The next candidate and its range; nothing when all were seen.
  std::optional<std::pair<IpAddress, const IpRange*>> Next() {
    while (!done_) {
      std::pair<IpAddress, const IpRange*> candidate(current_, &set_[range_]);
      Advance();
      done_ = current_ == first_;
      if (candidate.first != candidate.second->gateway) return candidate;
    }
    return std::nullopt;
  }

 private:
  void Advance() {
    if (current_ == set_[range_].end) {
      range_ = (range_ + 1) % set_.size();
      current_ = set_[range_].start;
    } else {
      current_ = current_.Next();
    }
  }

  const IpRangeSet& set_;
  size_t range_ = 0;
  IpAddress current_, first_;
  bool done_ = false;
};

Result<CniIp> Allocate(const Ctx& ctx, Store& store, const IpRangeSet& set, size_t index, const std::string& holder) {
  RoundRobin candidates(set, store.LastReserved(index));
  for (unsigned tried = 0;; ++tried) {
    auto candidate = candidates.Next();
    if (!candidate) return Error(Code::kResourceExhausted, StrCat("host-local: no address is free in range set ", index));
    if (tried % 1024 == 1023) TRY(ctx.Check());
    if (!TRY(store.Reserve(candidate->first, holder))) continue;
    TRY(store.SetLastReserved(index, candidate->first));
    return CniIp{{candidate->first, candidate->second->subnet.length}, candidate->second->gateway, std::nullopt};
  }
}

Result<CniIp> AllocateRequested(Store& store, const IpRangeSet& set, size_t index, const IpAddress& wanted, const std::string& holder) {
  const IpRange& range = *RangeFor(set, wanted);
  if (wanted == range.gateway) return Bad(StrCat("requested address ", wanted.Text(), " is the gateway's"));
  if (!TRY(store.Reserve(wanted, holder))) {
    return Error(Code::kAlreadyExists, StrCat("host-local: requested address ", wanted.Text(), " is in use"));
  }
  TRY(store.SetLastReserved(index, wanted));
  return CniIp{{wanted, range.subnet.length}, range.gateway, std::nullopt};
}

Result<std::vector<CniIp>> AllocateAll(const Ctx& ctx, Store& store, const HostLocalConf& conf, const std::string& holder) {
  std::vector<CniIp> ips;
  std::vector<IpAddress> requested = conf.requested;
  for (size_t index = 0; index < conf.sets.size(); ++index) {
    const IpRangeSet& set = conf.sets[index];
    auto wanted = std::ranges::find_if(requested, [&](const IpAddress& address) { return RangeFor(set, address) != nullptr; });
    if (wanted == requested.end()) {
      ips.push_back(TRY(Allocate(ctx, store, set, index, holder)));
    } else {
      ips.push_back(TRY(AllocateRequested(store, set, index, *wanted, holder)));
      requested.erase(wanted);
    }
  }
  if (!requested.empty()) return Bad(StrCat("requested address ", requested[0].Text(), " is in no range"));
  return ips;
}

}  // namespace

CniDns ParseResolvConf(std::string_view text) {
  CniDns dns;
  for (std::string_view line : Split(text, '\n')) {
    std::vector<std::string_view> words = SplitWords(line);
    if (words.size() < 2 || words[0].starts_with('#') || words[0].starts_with(';')) continue;
    if (words[0] == "nameserver") dns.nameservers.emplace_back(words[1]);
    if (words[0] == "domain") dns.domain = words[1];
    if (words[0] == "search") dns.search.insert(dns.search.end(), words.begin() + 1, words.end());
    if (words[0] == "options") dns.options.insert(dns.options.end(), words.begin() + 1, words.end());
  }
  return dns;
}

Result<CniResult> HostLocalAdd(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment, bool fresh_id) {
  CniResult result;
  if (!conf.resolv_conf.empty()) {
    result.dns = ParseResolvConf(TRY(sys::ReadFile(conf.resolv_conf, 64 << 10), "host-local"));
  }
  const std::string holder = Holder(attachment);
  Store store = TRY(Store::Lock(ctx, conf.dir));
  if (!fresh_id) {
    std::vector<std::string> held = TRY(store.Search(holder));
    if (!held.empty()) {
      return Error(Code::kAlreadyExists, StrCat("host-local: ", attachment.container_id, " has address ", held[0], " already"));
    }
  }
  Result<std::vector<CniIp>> ips = AllocateAll(ctx, store, conf, holder);
  if (!ips) {
    for (const std::string& name : TRY(store.Search(holder))) TRY(store.Release(name));
    return std::move(ips).error();
  }
  result.ips = *std::move(ips);
  result.routes = conf.routes;
  return result;
}

Result<> HostLocalDel(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment, const CniResult* known) {
  if (!sys::Exists(conf.dir)) return {};
  const std::string holder = Holder(attachment);
  Store store = TRY(Store::Lock(ctx, conf.dir));
  size_t released = 0;
  if (known != nullptr) {
    for (const CniIp& ip : known->ips) {
      if (!store.HeldBy(ip.address.address.Text(), holder)) continue;
      TRY(store.Release(ip.address.address.Text()));
      ++released;
    }
  }
  // One address of each set is all that there can be, which spares reading every pod's file.
  if (released == conf.sets.size()) return {};
  for (const std::string& name : TRY(store.Search(holder))) TRY(store.Release(name));
  // Written by versions that knew no interface names.
  for (const std::string& name : TRY(store.Search(attachment.container_id))) TRY(store.Release(name));
  return {};
}

Result<> HostLocalCheck(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment) {
  Store store = TRY(Store::Lock(ctx, conf.dir));
  if (TRY(store.Search(Holder(attachment))).empty()) {
    return Error(Code::kNotFound, StrCat("host-local: no address of ", attachment.container_id));
  }
  return {};
}

}  // namespace crisp::network
