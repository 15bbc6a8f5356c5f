#!/usr/bin/python3
"""Images as the kubelet sees them: which runtime handlers they are for, whether they may be used, what is pinned."""
import harness
import json
import os
import re

from harness import check, check_equal, check_error
from world import World


def test_signature_policy_when_a_container_is_created(node):
    """A policy that has become stricter since the pull counts; that of the pod's namespace before the node's."""
    policy, policies = f"{node.dir}/policy.json", f"{node.dir}/policies"
    os.mkdir(policies)

    def write(path, kind):
        with open(path, "w") as f:
            json.dump({"default": [{"type": kind}]}, f)
    write(policy, "insecureAcceptAnything")
    w = World(node, settings={"images.signature_policy": policy, "images.signature_policy_dir": policies})
    pod, config = w.pod()
    w.container(pod, config, "before")

    def create(pod, config, name, user_specified="", mounts=()):
        c = w.cri.container_config(name, w.image, ["/bin/sleep", "1000"], mounts=list(mounts))
        c.image.user_specified_image = user_specified
        return w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id

    write(policy, "reject")
    for said in ("", w.reference):
        said_text = check_error(lambda: create(pod, config, "refused", said), "PERMISSION_DENIED", "rejected by")
        check(said_text.startswith("SignatureValidationFailed: "), said_text)
    write(f"{policies}/lax.json", "insecureAcceptAnything")
    lax_config = w.daemon.pod_config("lax", namespace="lax")
    lax = w.client.RunPodSandbox(config=lax_config).pod_sandbox_id
    create(lax, lax_config, "accepted")
    # An image that is a volume is judged as well.
    write(policy, "insecureAcceptAnything")
    other = node.registry.push(harness.busybox_image(), "other")
    with open(policy, "w") as f:
        json.dump({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {other: [{"type": "reject"}]}}}, f)
    volume = w.pb.Mount(container_path="/v", readonly=True, image=w.pb.ImageSpec(image=w.image, user_specified_image=other))
    check_error(lambda: create(pod, config, "volume", mounts=[volume]), "PERMISSION_DENIED", "SignatureValidationFailed")
    create(pod, config, "after")
    w.finish()


def test_runtime_handlers(node):
    """KEP-4216: an image is told once for each runtime handler that it was pulled for."""
    w = World(node)
    spec = w.pb.ImageSpec

    def listed(**wanted):
        return sorted((i.id, i.spec.runtime_handler) for i in w.client.ListImages(filter=w.pb.ImageFilter(image=spec(**wanted))).images)
    check_error(lambda: w.client.PullImage(image=spec(image=w.reference, runtime_handler="nope")), "INVALID_ARGUMENT",
                'image.runtime_handler: no runtime handler "nope"')
    check_error(lambda: w.client.ImageStatus(image=spec(image=w.reference, runtime_handler="nope")), "INVALID_ARGUMENT",
                "image.runtime_handler")
    check_equal(listed(), [(w.image, "")], "pulled for none in particular")
    check_equal(w.client.ImageStatus(image=spec(image=w.reference, runtime_handler="native")).image.spec.runtime_handler, "",
                "not pulled for it")
    check_equal(w.client.PullImage(image=spec(image=w.reference, runtime_handler="native")).image_ref, w.image, "pulled for native")
    check_equal(listed(), [(w.image, ""), (w.image, "native")], "pulled for native as well")
    check_equal(listed(image=w.reference, runtime_handler="native"), [(w.image, "native")], "filtered")
    check_equal(w.client.ImageStatus(image=spec(image=w.reference, runtime_handler="native")).image.spec.runtime_handler, "native")
    streamed = [i for reply in w.client.StreamImages() for i in reply.images]
    check_equal(sorted((i.id, i.spec.runtime_handler) for i in streamed), listed(), "streamed")
    # A container's image is told as its creator named it.
    pod, config = w.pod()
    c = w.cri.container_config("main", w.image, ["/bin/sleep", "1000"])
    c.image.runtime_handler = "native"
    container = w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id
    check_equal(w.status(container).image.runtime_handler, "native", "of the container")
    w.daemon.kill()
    w.daemon.start()
    w.client = w.daemon.client()
    check_equal(listed(), [(w.image, ""), (w.image, "native")], "after a restart")
    w.client.RemoveImage(image=spec(image=w.reference, runtime_handler="runc"))  # success: it is not there
    w.client.RemoveImage(image=spec(image=w.reference, runtime_handler="native"))
    check_equal(listed(), [(w.image, "")], "removed for native")
    w.client.RemoveImage(image=spec(image=w.reference))
    check_equal(listed(), [], "removed")
    w.finish()


def test_pinned_images(node):
    """Whole names, beginnings and parts of names."""
    def pinned(*patterns):
        w = World(node, settings={"images.pinned": ",".join(patterns)}, name=f"pinned{len(os.listdir(node.dir))}")
        seen = w.client.ImageStatus(image=w.pb.ImageSpec(image=w.reference)).image.pinned
        w.daemon.stop()
        return seen
    host = node.registry.host
    for patterns, wanted in (([f"{host}/busybox:latest"], True), ([f"{host}/busy"], False), ([f"{host}/*"], True),
                             (["elsewhere/*", "*sybo*"], True), (["*nobody*"], False), (["sybox*"], False)):
        check_equal(pinned(*patterns), wanted, f"pinned by {patterns}")


def test_an_image_that_is_not_there(node):
    w = World(node)
    text = check_error(lambda: w.client.PullImage(image=w.pb.ImageSpec(image=f"{node.registry.host}/busybox:missing")), "NOT_FOUND",
                       f"{node.registry.host}/busybox:missing")
    check("not found" in text, text)
    w.finish()


def test_s14_file_system_images_as_layers(node):
    """Row S14: a layer that is an EROFS, ext4 or squashfs image is neither mounted nor kept, whatever its media type says."""
    w = World(node)
    def seen_by_the_kernel():
        with open("/proc/self/mountinfo") as mounts, open("/proc/filesystems") as types:
            return [line for line in mounts if re.search(" - (erofs|ext4|squashfs) ", line)], types.read()
    before = seen_by_the_kernel()
    erofs = bytes(1024) + bytes.fromhex("e2e1f5e0") + bytes(8192 - 1028)
    ext4 = bytes(1024 + 56) + bytes.fromhex("53ef") + bytes(8192 - 1082)
    squashfs = b"hsqs" + bytes(8188)
    for what, blob in (("erofs", erofs), ("ext4", ext4), ("squashfs", squashfs)):
        for media_type in (f"application/vnd.oci.image.layer.v1.{what}", f"application/vnd.{what}.layer.v1.{what}",
                           "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"):
            image = harness.Image([harness.layer_tar(harness.busybox_files()), blob])
            manifest = json.loads(image.manifest)
            manifest["layers"][1]["mediaType"] = media_type
            image.manifest = json.dumps(manifest).encode()
            reference = node.registry.push(image, what)
            try:
                w.client.PullImage(image=w.pb.ImageSpec(image=reference))
            except Exception as error:
                # As a tar, the zeros that such an image begins with are the archive's end, or its header is none.
                wanted = ("UNIMPLEMENTED",) if "tar" not in media_type else ("INVALID_ARGUMENT", "DATA_LOSS")
                check(error.code().name in wanted, f"{what} as {media_type}: {error.code().name}: {error.details()}")
                check_equal(bool(w.client.ImageStatus(image=w.pb.ImageSpec(image=reference)).image.id), False, "the image is there")
                continue
            # An archive that ends at once is an empty layer: nothing of the image is anywhere.
            check("tar" in media_type and what != "squashfs", f"{what} as {media_type} was taken")
            pod, config = w.pod(f"pod-{what}")
            c = w.cri.container_config("c", reference, ["/bin/sleep", "1000"])
            container = w.client.CreateContainer(pod_sandbox_id=pod, config=c, sandbox_config=config).container_id
            w.client.StartContainer(container_id=container)
            check(f" - {what} " not in w.sh(container, "cat /proc/self/mountinfo").stdout.decode(), f"{what} is mounted")
            w.daemon.remove_all(w.client)
            w.client.RemoveImage(image=w.pb.ImageSpec(image=reference))
    check_equal(seen_by_the_kernel(), before, "mounts and file systems")
    w.finish()


harness.main()
