#include "image/trust_openpgp.h"

#include <sys/mman.h>

#include "base/strings.h"
#include "image/registry_credentials.h"
#include "image/trust_payload.h"
#include "sys/spawn.h"

namespace crisp::image {

namespace {

constexpr size_t kKeysBytesMax = 4u << 20;
constexpr std::string_view kArmorBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
constexpr std::string_view kArmorEnd = "-----END PGP PUBLIC KEY BLOCK-----";

// An OpenPGP packet's first byte has its highest bit set (RFC 4880, 4.2); a key begins with a public key packet.
bool IsBinaryKey(std::string_view bytes) {
  if (bytes.empty()) return false;
  const auto first = static_cast<unsigned char>(bytes[0]);
  constexpr int kPublicKeyTag = 6;
  const int tag = (first & 0x40) != 0 ? first & 0x3f : (first >> 2) & 0x0f;
  return (first & 0x80) != 0 && tag == kPublicKeyTag;
}

Error NotAccepted(std::string_view why) { return Error(Code::kPermissionDenied, StrCat("OpenPGP signature: ", why)); }

Result<sys::UniqueFd> MemoryFile(const char* name, std::string_view content) {
  sys::UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  if (!file.ok()) return Errno(errno, "memfd_create");
  TRY(sys::WriteAll(file, content));
  return file;
}

}  // namespace

Result<std::string> DearmorKeys(std::string_view keys) {
  const Error bad(Code::kInvalidArgument, "no OpenPGP public key, neither binary nor in ASCII armor");
  if (keys.size() > kKeysBytesMax) return Error(Code::kInvalidArgument, "more than 4 MiB of keys");
  if (IsBinaryKey(keys)) return std::string(keys);
  std::string out;
  size_t begin = keys.find(kArmorBegin);
  if (begin == std::string_view::npos) return bad;
  for (; begin != std::string_view::npos; begin = keys.find(kArmorBegin, begin)) {
    begin += kArmorBegin.size();
    const size_t end = keys.find(kArmorEnd, begin);
    if (end == std::string_view::npos) return bad;
    // Headers ("Comment: …"), an empty line, base64, and a checksum line "=XXXX", which says nothing that gpgv does not
    // find out.
    std::string base64;
    bool in_headers = true;
    for (std::string_view line : Split(keys.substr(begin, end - begin), '\n')) {
      line = Trim(line);
      if (line.find(": ") != std::string_view::npos && in_headers) continue;
      if (line.empty()) continue;
      in_headers = false;
      if (!line.starts_with('=')) base64 += line;
    }
    Result<std::string> bytes = Base64Decode(base64, kKeysBytesMax);
    if (!bytes || !IsBinaryKey(*bytes)) return bad;
    out += *bytes;
    begin = end;
  }
  return out;
}

Result<> JudgeGpgStatus(std::string_view status) {
  bool is_damaged = false;
  int texts = 0, signatures = 0, good = 0, valid = 0;
  for (std::string_view line : Split(status, '\n')) {
    constexpr std::string_view kMark = "[GNUPG:] ";
    if (!line.starts_with(kMark)) continue;
    line.remove_prefix(kMark.size());
    const std::string_view word = line.substr(0, line.find(' '));
    texts += word == "PLAINTEXT";
    signatures += word == "NEWSIG";
    good += word == "GOODSIG";
    valid += word == "VALIDSIG";
    if (word == "NO_PUBKEY") return NotAccepted("by none of the policy's keys");
    if (word == "EXPSIG") return NotAccepted("expired");
    if (word == "EXPKEYSIG") return NotAccepted("its key has expired");
    if (word == "REVKEYSIG") return NotAccepted("its key was revoked");
    if (word == "BADSIG") return NotAccepted("does not fit the text");
    // ERRSIG comes before the line that says why.
    is_damaged |= word == "ERRSIG" || word == "NODATA" || word == "UNEXPECTED" || word == "FAILURE";
  }
  if (is_damaged) return NotAccepted("damaged");
  // Of several texts or signatures nobody could say which one was meant.
  if (texts != 1 || signatures != 1 || good != 1 || valid != 1)
    return NotAccepted("not exactly one valid signature over one text");
  return {};
}

Result<std::string> OpenPgpKeys::Verify(const Ctx& ctx, std::string_view message) const {
  std::string all;
  for (const std::string& key : keys_) all += key;
  const sys::UniqueFd keyring = TRY(MemoryFile("crisp-keyring", all));
  const sys::UniqueFd nowhere = TRY(sys::Open("/dev/null", O_WRONLY));
  // The text comes by a pipe: a message may hold compressed data, and Run ends a program that writes too much. On
  // stderr is the status alone; what gpgv writes for people, with texts of the signer in it, is not read. /dev/fd/3:
  // gpgv opens the keyring anew, at its beginning.
  sys::Command command{.program = "gpgv",
                       .args = {"--homedir", "/nonexistent", "--keyring", "/dev/fd/3", "--status-fd", "2",
                                "--logger-fd", "4", "--output", "-", "-"},
                       .env = std::vector<std::string>{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                       .working_dir = "/",
                       .fds = {{3, keyring}, {4, nowhere}}};
  Result<sys::RunResult> run =
      sys::Run(ctx, command, {.input = std::string(message), .output_bytes_max = kSignatureBytesMax});
  if (!run) return std::move(run).error().Context("verify an OpenPGP signature by gpgv");
  TRY(JudgeGpgStatus(run->err));
  if (run->status.code != 0) return NotAccepted("gpgv does not accept it");
  return std::move(run->out);
}

}  // namespace crisp::image
