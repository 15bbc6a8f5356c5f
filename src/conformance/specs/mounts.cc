// Read-only mounts, propagation and volumes from images.
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

class Mounts : public Spec {
 protected:
  void Mount(const char* source, const std::string& target, const char* type, unsigned long flags) {
    if (mount(source, target.c_str(), type, flags, nullptr) != 0)
      throw Unsupported(StrCat("no mount on ", target, " here: ", strerror(errno)));
    AtEnd([target] { umount2(target.c_str(), MNT_DETACH); });
  }
  // A directory that is a mount of its own with another one below it.
  std::string NestedMounts(unsigned long propagation) {
    std::string dir = TempDir();
    Mount(dir.c_str(), dir, nullptr, MS_BIND);
    Mount("none", dir, nullptr, propagation | MS_REC);
    mkdir((dir + "/nested").c_str(), 0755);
    Mount("tmpfs", dir + "/nested", "tmpfs", 0);
    return dir;
  }
  void NeedsRecursiveReadOnly() {
    Json status = Call("Status");
    for (const Json& handler : status["runtime_handlers"]) {
      if (handler.at("name") == context().runtime_handler && handler.contains("features") &&
          handler.at("features").at("recursive_read_only_mounts") == true)
        return;
    }
    throw Unsupported("the runtime handler does not offer recursive read-only mounts");
  }
  bool Touch(const std::string& id, const std::string& path) { return Exec(id, {"/bin/touch", path}).code == 0; }
};

#define MOUNT_SPEC(group_, name_, ...)                                                    \
  class group_##_##name_ : public Mounts {                                                \
   protected:                                                                             \
    void Body() override;                                                                 \
  };                                                                                      \
  static const bool registered_##group_##_##name_ =                                       \
      internal::Register({#group_, #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<group_##_##name_>);       \
  void group_##_##name_::Body()

MOUNT_SPEC(MountReadonly, NotRecursive, .like = {65},
           .faults = {"CreateContainer<config.mounts.0.readonly=false", "CreateContainer<-config.mounts"}) {
  std::string dir = NestedMounts(MS_PRIVATE);
  std::string id = Run(RunPod(), {{"mounts", {{{"host_path", dir}, {"container_path", "/mnt"}, {"readonly", true}}}}});
  EXPECT_FALSE(Touch(id, "/mnt/file"));
  EXPECT_TRUE(Touch(id, "/mnt/nested/file"));
}
MOUNT_SPEC(MountReadonly, Recursive, .like = {66},
           .faults = {"CreateContainer<config.mounts.0.recursive_read_only=false"}) {
  NeedsRecursiveReadOnly();
  std::string dir = NestedMounts(MS_PRIVATE);
  std::string id =
      Run(RunPod(),
          {{"mounts",
            {{{"host_path", dir}, {"container_path", "/mnt"}, {"readonly", true}, {"recursive_read_only", true}}}}});
  EXPECT_FALSE(Touch(id, "/mnt/file"));
  EXPECT_FALSE(Touch(id, "/mnt/nested/file"));
}
constexpr const char* kAllowed = "CreateContainer<config.mounts.0.recursive_read_only=false";
MOUNT_SPEC(MountReadonly, RecursiveWithHostToContainerIsRefused, .like = {67}, .faults = {kAllowed}) {
  NeedsRecursiveReadOnly();
  std::string dir = NestedMounts(MS_SHARED);
  MustNotRun(RunPod(), {{"mounts",
                         {{{"host_path", dir},
                           {"container_path", "/mnt"},
                           {"readonly", true},
                           {"recursive_read_only", true},
                           {"propagation", "PROPAGATION_HOST_TO_CONTAINER"}}}}});
}
MOUNT_SPEC(MountReadonly, RecursiveWithBidirectionalIsRefused, .like = {68}, .faults = {kAllowed}) {
  NeedsRecursiveReadOnly();
  std::string dir = NestedMounts(MS_SHARED);
  Json privileged = {{"linux", {{"security_context", {{"privileged", true}}}}}};
  MustNotRun(RunPod(privileged), Merged(privileged, {{"mounts",
                                                      {{{"host_path", dir},
                                                        {"container_path", "/mnt"},
                                                        {"readonly", true},
                                                        {"recursive_read_only", true},
                                                        {"propagation", "PROPAGATION_BIDIRECTIONAL"}}}}}));
}
MOUNT_SPEC(MountReadonly, RecursiveWithoutReadonlyIsRefused, .like = {69}, .faults = {kAllowed}) {
  NeedsRecursiveReadOnly();
  std::string dir = NestedMounts(MS_PRIVATE);
  MustNotRun(
      RunPod(),
      {{"mounts",
        {{{"host_path", dir}, {"container_path", "/mnt"}, {"readonly", false}, {"recursive_read_only", true}}}}});
}

// Mounts made outside and inside while the container runs: who sees whose?
class Propagation : public Mounts {
 protected:
  void Check(const char* propagation, bool into, bool out) {
    std::string dir = TempDir();
    Mount(dir.c_str(), dir, nullptr, MS_BIND);
    Mount("none", dir, nullptr, MS_SHARED);
    mkdir((dir + "/from-host").c_str(), 0755);
    mkdir((dir + "/from-container").c_str(), 0755);
    Json privileged = {{"linux", {{"security_context", {{"privileged", true}}}}}};
    std::string id =
        Run(RunPod(privileged),
            Merged(privileged,
                   {{"mounts", {{{"host_path", dir}, {"container_path", "/mnt"}, {"propagation", propagation}}}}}));
    Mount("tmpfs", dir + "/from-host", "tmpfs", 0);
    ASSERT_TRUE(sys::WriteFileAtomic(dir + "/from-host/file", "x", 0644, sys::Durability::kNone));
    EXPECT_EQ(Exec(id, {"/bin/test", "-e", "/mnt/from-host/file"}).code == 0, into) << "host to container";
    Sh(id, "mount -t tmpfs tmpfs /mnt/from-container && touch /mnt/from-container/file");
    EXPECT_EQ(sys::Exists(dir + "/from-container/file"), out) << "container to host";
    if (out) Sh(id, "umount /mnt/from-container");
  }
};

#define PROPAGATION_SPEC(name_, ...)                                                                 \
  class MountPropagation_##name_ : public Propagation {                                              \
   protected:                                                                                        \
    void Body() override;                                                                            \
  };                                                                                                 \
  static const bool registered_propagation_##name_ =                                                 \
      internal::Register({"MountPropagation", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<MountPropagation_##name_>);          \
  void MountPropagation_##name_::Body()

PROPAGATION_SPEC(Private, .like = {121},
                 .faults = {"CreateContainer<config.mounts.0.propagation=PROPAGATION_HOST_TO_CONTAINER"}) {
  Check("PROPAGATION_PRIVATE", false, false);
}
PROPAGATION_SPEC(Bidirectional, .like = {122},
                 .faults = {"CreateContainer<config.mounts.0.propagation=PROPAGATION_HOST_TO_CONTAINER"}) {
  Check("PROPAGATION_BIDIRECTIONAL", true, true);
}
PROPAGATION_SPEC(HostToContainer, .like = {123},
                 .faults = {"CreateContainer<config.mounts.0.propagation=PROPAGATION_PRIVATE"}) {
  Check("PROPAGATION_HOST_TO_CONTAINER", true, false);
}

// ---- volumes from images

class ImageVolumes : public Mounts {
 protected:
  Json Volume(const Json& more = Json::object()) {
    std::string reference = Image("tags/" + Unique());
    return {{"mounts",
             {Merged({{"container_path", "/volume"},
                      {"readonly", true},
                      {"image", {{"image", reference}, {"user_specified_image", reference}}}},
                     more)}}};
  }
  // A runtime of before image volumes mounts nothing, or wants a host path.
  std::string RunOrSkip(const Json& more) {
    auto id = TryCreate(RunPod(), more);
    if (!id && context().fault.empty() &&
        (id.error().message().find("host_path") != std::string::npos ||
         id.error().message().find("HostPath") != std::string::npos ||
         id.error().message().find("no such file") != std::string::npos)) {
      throw Unsupported("the runtime has no image volumes: " + id.error().message());
    }
    if (!id) throw Failure("CreateContainer: " + id.error().message());
    return Start(*id);
  }
};

#define VOLUME_SPEC(name_, ...)                                                                 \
  class ImageVolume_##name_ : public ImageVolumes {                                             \
   protected:                                                                                   \
    void Body() override;                                                                       \
  };                                                                                            \
  static const bool registered_image_volume_##name_ =                                           \
      internal::Register({"ImageVolume", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<ImageVolume_##name_>);          \
  void ImageVolume_##name_::Body()

VOLUME_SPEC(DigestIsInTheStatus, .like = {115},
            .faults = {"ContainerStatus:-status.mounts", "ContainerStatus:status.mounts.*.image={}"}) {
  Json volume = Volume();
  std::string id = RunOrSkip(volume);
  Json status = Status(id);
  ASSERT_EQ(status["mounts"].size(), 1u);
  ASSERT_TRUE(status["mounts"][0].contains("image")) << "the mount does not say its image";
  EXPECT_EQ(status["mounts"][0]["container_path"], "/volume");
  std::string ref = status["mounts"][0]["image"]["image_ref"];
  if (ref.empty() && context().fault.empty())
    throw Unsupported("the runtime does not fill ImageSpec.image_ref of mounts");
  EXPECT_EQ(ref, Call("ImageStatus", {{"image", volume["mounts"][0]["image"]}})["image"]["id"].get<std::string>());
}
VOLUME_SPEC(IsMountedReadOnly, .like = {116}, .faults = {"CreateContainer<-config.mounts"}) {
  std::string id = RunOrSkip(Volume());
  EXPECT_EQ(Sh(id, "cat /volume/hello"), "hello from the image\n");
  ExecResult result = Exec(id, {"/bin/touch", "/volume/file"});
  EXPECT_NE(result.err.find("Read-only file system"), std::string::npos) << result.err;
}
VOLUME_SPEC(WritableIsRefused, .like = {117}, .faults = {"CreateContainer<config.mounts.0.readonly=true"}) {
  RunOrSkip(Volume());
  MustNotRun(RunPod(), Volume({{"readonly", false}}));
}
VOLUME_SPEC(SubPath, .like = {118}, .faults = {"CreateContainer<config.mounts.0.image_sub_path="}) {
  EXPECT_EQ(Sh(RunOrSkip(Volume({{"image_sub_path", "folder"}})), "cat /volume/inside"), "inside the folder\n");
}
VOLUME_SPEC(MissingSubPathIsRefused, .like = {119}, .faults = {"CreateContainer<config.mounts.0.image_sub_path="}) {
  RunOrSkip(Volume());
  MustNotRun(RunPod(), Volume({{"image_sub_path", "no/such/folder"}}));
}
VOLUME_SPEC(SubPathDoesNotLeaveTheImage,
            .faults = {"CreateContainer<-config.mounts.0.image; CreateContainer<-config.mounts.0.image_sub_path; "
                       "CreateContainer<config.mounts.0.host_path=/etc"}) {
  RunOrSkip(Volume());
  auto id = TryCreate(RunPod(), Volume({{"image_sub_path", "folder/out"}}));
  if (!id) return;  // refused
  if (!Try("StartContainer", {{"container_id", *id}})) return;
  EXPECT_NE(Exec(*id, {"/bin/test", "-e", "/volume/passwd"}).code, 0)
      << "a link in the image leads to the machine's /etc";
}

}  // namespace
}  // namespace crisp::conformance
