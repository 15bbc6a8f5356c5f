#include "pod/validate.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::pod {

namespace {

// Kubernetes' own names are at most 253 bytes (DNS subdomains).
constexpr size_t kNameBytesMax = 256;
constexpr size_t kPathBytesMax = 4095;  // PATH_MAX with its NUL

Error Bad(std::string_view field, std::string_view value, std::string_view why) {
  return Error(Code::kInvalidArgument, StrCat(field, " ", Quote(value, 80), " ", why));
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// Names become parts of log paths, CNI arguments and messages.
Result<> CheckName(std::string_view field, std::string_view name) {
  if (name.empty()) return Error(Code::kInvalidArgument, StrCat(field, " is empty"));
  if (name.size() > kNameBytesMax) return Bad(field, name, StrCat("is longer than ", kNameBytesMax, " bytes"));
  if (name == "." || name == "..") return Bad(field, name, "is no name");
  if (name.find('/') != std::string_view::npos) return Bad(field, name, "has a slash");
  if (HasControl(name)) return Bad(field, name, "has a control character");
  if (!IsValidUtf8(name)) return Bad(field, name, "is not UTF-8");
  return {};
}

Result<> CheckPath(std::string_view field, std::string_view path) {
  if (path.size() > kPathBytesMax) return Bad(field, path, "is too long for a path");
  if (path.find('\0') != std::string_view::npos) return Bad(field, path, "has a NUL byte");
  std::vector<std::string_view> parts = Split(path, '/');
  if (std::find(parts.begin(), parts.end(), "..") != parts.end()) return Bad(field, path, "has \"..\"");
  return {};
}

Result<> CheckAbsolute(std::string_view field, std::string_view path) {
  if (!path.starts_with('/')) return Bad(field, path, "is not an absolute path");
  return CheckPath(field, path);
}

}  // namespace

Result<> CheckSandboxConfig(const spec::SandboxConfig& config) {
  TRY(CheckName("metadata.name", config.metadata.name));
  TRY(CheckName("metadata.namespace", config.metadata.pod_namespace));
  TRY(CheckName("metadata.uid", config.metadata.uid));
  if (!config.log_directory.empty()) TRY(CheckAbsolute("log_directory", config.log_directory));
  return {};
}

Result<> CheckContainerConfig(const spec::ContainerConfig& config) {
  TRY(CheckName("metadata.name", config.metadata.name));
  if (config.image.empty()) return Error(Code::kInvalidArgument, "image is empty");
  if (config.image.size() > kPathBytesMax) return Bad("image", config.image, "is too long for a reference");
  for (const spec::Mount& mount : config.mounts) {
    TRY(CheckAbsolute("mount: container_path", mount.container_path));
    if (mount.image.empty()) TRY(CheckAbsolute("mount: host_path", mount.host_path));
  }
  for (const spec::Device& device : config.devices) {
    TRY(CheckAbsolute("device: container_path", device.container_path));
    TRY(CheckAbsolute("device: host_path", device.host_path));
  }
  for (const spec::EnvVar& env : config.envs) {
    bool bad = env.key.empty() || env.key.find_first_of(std::string_view("=\0", 2)) != std::string::npos;
    if (bad) return Bad("environment variable", env.key, "is no name");
    if (env.value.find('\0') != std::string::npos) return Bad("value of environment variable", env.key, "has a NUL byte");
  }
  return {};
}

Result<std::string> LogPath(const spec::SandboxConfig& sandbox, const spec::ContainerConfig& config) {
  if (sandbox.log_directory.empty() || config.log_path.empty()) return std::string();
  if (config.log_path.starts_with('/')) return Bad("log_path", config.log_path, "is not relative to log_directory");
  TRY(CheckPath("log_path", config.log_path));
  std::string path = StrCat(sandbox.log_directory, "/", config.log_path);
  if (path.size() > kPathBytesMax) return Bad("log_path", config.log_path, "is too long");
  return path;
}

}  // namespace crisp::pod
