#!/usr/bin/python3
"""Checkpoints of containers and pods, and their restoration, by runc or the native handler and CRIU: a counter goes on counting where it was,
in another pod, with another log. Where the kernel, the OCI runtime or CRIU cannot do it, crispd says what is missing, and
that is the reason of the skip.

Kernels without CONFIG_CHECKPOINT_RESTORE are common in containers and on small machines. To run this file in a virtual
machine instead, give a program that runs a command as root in one with the host's files in it:

    CRISP_VM_RUN=… tests/vm_test.py checkpoint

CRIU 3.17 wants of the kernel: CHECKPOINT_RESTORE, FILE_LOCKING, UNIX_DIAG, INET_DIAG, INET_UDP_DIAG, INET_RAW_DIAG,
PACKET_DIAG, NETLINK_DIAG (the last ones for the sockets of a network namespace, even if there are none).
"""
import harness
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile

from harness import Skip, check, check_equal, check_error, eventually

COUNT = ("/bin/sh", "-c", "i=0; echo begin > /state; rm /etc/group; while :; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.2; done")


class World:
    def __init__(self, node, handler="runc", **settings):
        import cri
        self.cri, self.pb, self.node = cri, cri.pb, node
        self.daemon = node.crispd(settings={"runtime.default_handler": handler} | settings)
        self.client = self.daemon.client(default_timeout=300)
        path = f"{node.dir}/busybox.tar"
        harness.busybox_image().layout_tar(path)
        self.image = self.import_image(path, "docker.io/library/busybox:latest")

    def import_image(self, path, name):
        done = subprocess.run([f"{harness.BUILD}/bin/crispctl", "-r", self.daemon.endpoint, "image", "import", "--tag", name, path],
                              capture_output=True, text=True, timeout=300)
        check_equal(done.returncode, 0, done.stdout + done.stderr)
        return name

    def pod(self, name):
        config = self.daemon.pod_config(name)
        return self.client.RunPodSandbox(config=config).pod_sandbox_id, config

    def create(self, pod, config, name="main", image=None, **more):
        return self.client.CreateContainer(
            pod_sandbox_id=pod, sandbox_config=config,
            config=self.cri.container_config(name, image or self.image, COUNT, **more)).container_id

    def running(self, pod, config, name="main", **more):
        container = self.create(pod, config, name, **more)
        self.client.StartContainer(container_id=container)
        eventually(lambda: self.count(container) >= 3, "the counter counts", 60)
        return container

    def count(self, container):
        """The highest number in the container's log."""
        path = self.client.ContainerStatus(container_id=container).status.log_path
        try:
            with open(path) as log:
                numbers = re.findall(r" stdout F (\d+)$", log.read(), re.M)
        except FileNotFoundError:
            return 0
        return int(numbers[-1]) if numbers else 0

    def first_count(self, container):
        path = self.client.ContainerStatus(container_id=container).status.log_path
        eventually(lambda: self.count(container) > 0, "the restored counter counts", 60)
        with open(path) as log:
            return int(re.search(r" stdout F (\d+)$", log.read(), re.M)[1])

    def goes_on(self, container):
        before = self.count(container)
        eventually(lambda: self.count(container) > before, "the container goes on", 60)

    def sh(self, container, script):
        return self.client.ExecSync(container_id=container, cmd=["/bin/sh", "-c", script], timeout=60)

    def checkpoint(self, container, path):
        """Skips where this machine cannot."""
        import grpc
        try:
            self.client.CheckpointContainer(container_id=container, location=path, timeout=120)
        except grpc.RpcError as error:
            if error.code().name == "UNIMPLEMENTED":
                raise Skip(error.details()) from None
            log = f"{self.daemon.dir}/root/containers/{container}/dump/dump.log"
            raise AssertionError(f"{error.code().name}: {error.details()} ({log})") from None

    def finish(self):
        self.daemon.remove_all(self.client)
        self.daemon.check_clean()
        check_equal(self.daemon.stop(), 0, "exit code of crispd")


ON = {"checkpoint.enabled": "true", "checkpoint.restore": "true"}


def pid_of(w, container):
    info = w.client.ContainerStatus(container_id=container, verbose=True).info
    return json.loads(info["info"])["pid"]


def checkpoint_image(archive):
    """What `buildah from scratch; buildah add archive; buildah config --annotation …` makes of it."""
    with open(archive, "rb") as f:
        layer = f.read()
    image = harness.Image([layer])
    manifest = json.loads(image.manifest)
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    manifest["annotations"] = {"io.kubernetes.cri-o.annotations.checkpoint.name": "main"}
    image.manifest = json.dumps(manifest).encode()
    image.digest = harness.sha256(image.manifest)
    return image


def test_off_by_default(node):
    w = World(node)
    pod, config = w.pod("off")
    container = w.create(pod, config)
    check_error(lambda: w.client.CheckpointContainer(container_id=container, location=f"{node.dir}/c.tar"),
                "UNIMPLEMENTED", "checkpoint.enabled")
    check_error(lambda: w.client.CheckpointPod(pod_sandbox_id=pod, output_path=f"{node.dir}/p"),
                "UNIMPLEMENTED", "checkpoint.enabled")
    check_error(lambda: w.client.RestorePod(checkpoint_path=f"{node.dir}/p", config=config), "UNIMPLEMENTED", "checkpoint.restore")
    w.finish()


def test_says_what_is_missing(node):
    """Debian's crun has no CRIU in it, whatever the kernel can do."""
    w = World(node, handler="crun", **ON)
    pod, config = w.pod("crun")
    container = w.running(pod, config)
    if "+CRIU" in subprocess.run(["crun", "--version"], capture_output=True, text=True).stdout:
        raise Skip("this crun is built with CRIU")
    check_error(lambda: w.client.CheckpointContainer(container_id=container, location=f"{node.dir}/c.tar"),
                "UNIMPLEMENTED", "this node cannot checkpoint")
    check(not os.path.exists(f"{node.dir}/c.tar"), "an archive in spite of the error")
    w.goes_on(container)
    check_error(lambda: w.client.CheckpointContainer(container_id=container, location="relative.tar"), "INVALID_ARGUMENT", "location")
    check_error(lambda: w.client.CheckpointContainer(container_id=container, location="/a/../b.tar"), "INVALID_ARGUMENT", "location")
    check_error(lambda: w.client.CheckpointPod(pod_sandbox_id=pod, output_path=f"{node.dir}/p", options={"x": "y"}),
                "INVALID_ARGUMENT", "options")
    w.finish()


def test_container_goes_on_and_is_restored_in_another_pod(node):
    check_restore_in_another_pod(node, "runc")


def test_native_container_goes_on_and_is_restored_in_another_pod(node):
    check_restore_in_another_pod(node, "native")


def check_restore_in_another_pod(node, handler):
    w = World(node, handler=handler, **ON)
    pod, config = w.pod("one")
    container = w.running(pod, config)
    archive = f"{node.dir}/c.tar"
    w.checkpoint(container, archive)
    w.goes_on(container)
    info = os.lstat(archive)
    check_equal((stat.S_IMODE(info.st_mode), info.st_uid), (0o600, 0), "mode and owner of the archive")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        for name in ("config.dump", "spec.dump", "status.dump", "rootfs-diff.tar", "deleted.files", "container.log",
                     "checkpoint/inventory.img"):
            check(name in names, f"{name} is not among {names}")
        check_equal(json.load(tar.extractfile("config.dump"))["rootfsImageName"], w.image, "image in config.dump")
        check("etc/group" in json.load(tar.extractfile("deleted.files")), "the deleted file is not listed")
        with tarfile.open(fileobj=io.BytesIO(tar.extractfile("rootfs-diff.tar").read())) as diff:
            check_equal(diff.extractfile("state").read(), b"begin\n", "changed file in rootfs-diff.tar")
            counted = int(diff.extractfile("count").read())
    check_error(lambda: w.client.CheckpointContainer(container_id=container, location=archive), "ALREADY_EXISTS", "exists")

    checkpoint_image(archive).layout_tar(f"{node.dir}/image.tar")
    image = w.import_image(f"{node.dir}/image.tar", "localhost/counter:checkpoint")
    pod2, config2 = w.pod("two")
    restored = w.create(pod2, config2, image=image)
    check_equal(w.client.ContainerStatus(container_id=restored).status.state, w.pb.CONTAINER_CREATED, "state before the start")
    w.client.StartContainer(container_id=restored)
    first = w.first_count(restored)
    check(counted < first <= counted + 3, f"counts on from {first}, was checkpointed at {counted}")
    w.goes_on(restored)
    with open(f"/proc/{pid_of(w, restored)}/cgroup") as f:
        check(all(restored in line for line in f if ":cpuset:" in line or line.startswith("0::/crisp")), "cgroup of the restored process")
    check_equal(w.sh(restored, "cat /state; ls /etc/group").stdout, b"begin\n", "files of the restored container")
    check_equal(w.sh(restored, "hostname").stdout, w.sh(restored, "cat /etc/hostname").stdout, "host name is the new pod's")
    w.client.StopContainer(container_id=restored, timeout=0)
    check_equal(w.client.ContainerStatus(container_id=restored).status.exit_code, 137, "exit code of the restored container")
    w.goes_on(container)
    w.finish()


def test_pod_with_two_containers(node):
    check_pod_with_two_containers(node, "runc")


def test_native_pod_with_two_containers(node):
    check_pod_with_two_containers(node, "native")


def check_pod_with_two_containers(node, handler):
    w = World(node, handler=handler, **ON)
    pod, config = w.pod("pair")
    a, b = w.running(pod, config, "a"), w.running(pod, config, "b")
    w.checkpoint(a, f"{node.dir}/probe.tar")  # or skips
    directory = f"{node.dir}/pod-checkpoint"
    w.client.CheckpointPod(pod_sandbox_id=pod, output_path=directory)
    for container in (a, b):
        w.goes_on(container)
    configs = [w.cri.container_config(name, w.image, COUNT) for name in "ab"]
    new = w.daemon.pod_config("pair-restored")
    check_error(lambda: w.client.RestorePod(checkpoint_path=directory, config=new, container_configs=configs[:1]), "INVALID_ARGUMENT", "b")
    reply = w.client.RestorePod(checkpoint_path=directory, config=new, container_configs=configs)
    restored = {each.name: each.container_id for each in reply.restored_containers}
    check_equal(sorted(restored), ["a", "b"], "restored containers")
    for container in restored.values():
        check_equal(w.client.ContainerStatus(container_id=container).status.state, w.pb.CONTAINER_CREATED, "state")
        w.client.StartContainer(container_id=container)
        check(w.first_count(container) > 3, "began anew")
        w.goes_on(container)
    w.finish()


def test_pods_by_crispctl(node):
    """checkpointp, restorep and, on v2, update --unified."""
    from google.protobuf import json_format
    w = World(node, handler="native", **ON)

    def ctl(*words):
        done = subprocess.run([f"{harness.BUILD}/bin/crispctl", "-r", w.daemon.endpoint, "-t", "300s", *words],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0 and "this node cannot checkpoint" in done.stderr:
            raise Skip(done.stderr.strip().splitlines()[0])
        check_equal(done.returncode, 0, f"crispctl {words[0]}: {done.stdout}{done.stderr}")
        return done.stdout.split()

    def to_file(name, message):
        with open(f"{node.dir}/{name}.json", "w") as f:
            f.write(json_format.MessageToJson(message, preserving_proto_field_name=True))
        return f.name

    pod, config = w.pod("by-hand")
    container = w.running(pod, config)
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        ctl("update", "--unified", "memory.high=50000000", container)
        check_equal(w.sh(container, "cat /sys/fs/cgroup/memory.high").stdout.split(), [b"49999872"], "memory.high, whole pages")
    ctl("checkpointp", "-e", f"{node.dir}/saved", pod)
    w.goes_on(container)
    restored = ctl("restorep", f"{node.dir}/saved", "--pod-config", to_file("pod", w.daemon.pod_config("by-hand-again")),
                   "--container-config", to_file("container", w.cri.container_config("main", w.image, COUNT)))
    new = next(c.id for c in w.client.ListContainers().containers if c.id != container)
    check(new in restored, f"restorep says {restored}")
    ctl("start", new)
    check(w.first_count(new) > 3, "began anew")
    w.goes_on(new)
    w.finish()


def test_crash_within_a_checkpoint_thaws_the_container(node):
    check_crash_within_a_checkpoint(node, "runc")


def test_crash_within_a_native_checkpoint_thaws_the_container(node):
    check_crash_within_a_checkpoint(node, "native")


def check_crash_within_a_checkpoint(node, handler):
    w = World(node, handler=handler, **ON)
    pod, config = w.pod("crash")
    container = w.running(pod, config)
    w.checkpoint(container, f"{node.dir}/probe.tar")  # or skips
    w.daemon.stop()
    w.daemon.environment = {"CRISP_FAILPOINTS": "checkpoint.after_dump=kill"}
    w.daemon.start()
    w.client = w.daemon.client(default_timeout=300)  # the old one's connection may not be back yet
    try:
        w.client.CheckpointContainer(container_id=container, location=f"{node.dir}/c.tar", wait_for_ready=False)
    except Exception:
        pass
    w.daemon.process.wait(timeout=120)
    w.daemon.environment = {}
    w.daemon.start()
    w.goes_on(container)
    check_equal([f for f in os.listdir(node.dir) if "checkpoint" in f or f == "c.tar"], [], "what the crash left")
    check(not os.path.exists(f"{w.daemon.dir}/root/containers/{container}/dump"), "the dump is left")
    w.finish()


if __name__ == "__main__":
    harness.main()
