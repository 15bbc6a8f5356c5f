#!/usr/bin/python3
"""Attackers, and images of attackers, against the native handler: rows of the security matrix (docs/security.md) that need an opponent who moves while
containers start, run commands, write logs. Each test is named after its row.
"""
import harness
import contextlib
import hashlib
import json
import os
import shutil
import threading

import grpc
from harness import BUILD, check, check_equal, eventually
from world import World

ROUNDS = int(os.environ.get("CRISP_ATTACKS", "40"))

# Looks at everything that /proc shows of every process, by builtins only: it is to be quick. $MARK is a file of the node's that
# no container has; /bin/busybox is all that should run. Truncating a program that runs is refused as busy, and a program on a
# read-only mount as that.
SPY = r"""
looked=0
while :; do
  for p in /proc/[0-9]*; do
    for way in root cwd; do [ -e $p/$way$MARK ] && echo LEAK $way of $p; done
    for f in $p/fd/*; do [ -e $f$MARK ] && echo LEAK $f; done
    [ -e $p/exe ] && { [ $p/exe -ef /bin/busybox ] || { true >$p/exe && echo LEAK wrote to $p/exe; } }
  done 2>/dev/null
  looked=$((looked+1))
  [ $looked = 1 ] && echo looking
  [ -e /ctl/stop ] && break
done
echo looked $looked times
"""


class Battle(World):
    """A world whose shim is a copy, so that nothing of the build is at stake."""

    def __init__(self, node, **more):
        self.shim = f"{node.dir}/crisp-shim"
        shutil.copy(f"{BUILD}/bin/crisp-shim", self.shim)
        self.mark = f"{node.dir}/of-the-node"
        with open(self.mark, "w") as f:
            f.write("untouched")
        self.control = f"{node.dir}/control"
        os.makedirs(self.control)
        super().__init__(node, settings={"runtime.shim": self.shim}, **more)
        self.digest = self.sum()

    def sum(self):
        with open(self.shim, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def linux(self, *capabilities, pid=None, privileged=False):
        linux = self.pb.LinuxContainerConfig()
        linux.security_context.capabilities.add_capabilities.extend(capabilities)
        linux.security_context.privileged = privileged
        if pid is not None:
            linux.security_context.namespace_options.pid = pid
        return linux

    def spy(self, pod, config, linux):
        return self.container(pod, config, "spy", ["/bin/sh", "-c", SPY], linux=linux, **self.spying())

    def spying(self):
        return {"envs": [self.pb.KeyValue(key="MARK", value=self.mark.encode())],
                "mounts": [self.pb.Mount(container_path="/ctl", host_path=self.control, readonly=True)]}

    def log(self, config, name):
        with contextlib.suppress(FileNotFoundError), open(f"{config.log_directory}/{name}.log") as f:
            return f.read()
        return ""

    def end_of_spy(self, config, spy):
        with open(f"{self.control}/stop", "w"):
            pass
        self.wait_exit(spy)
        text = self.log(config, "spy")
        check("LEAK" not in text, text)
        check("looked" in text, f"the spy did not look: {text}")
        print(f"# {text.splitlines()[-1].split(' ', 3)[3]}")

    def unharmed(self):
        check_equal(self.sum(), self.digest, "the shim's program")
        with open(self.mark) as f:
            check_equal(f.read(), "untouched", "a file of the node's")
        check_equal(os.stat(self.mark).st_nlink, 1, "links of a file of the node's")
        st = os.stat("/dev/null")
        check_equal((os.major(st.st_rdev), os.minor(st.st_rdev), st.st_mode & 0o7777), (1, 3, 0o666), "the node's /dev/null")

    def finish(self):
        self.unharmed()
        super().finish()


class Swapper(threading.Thread):
    """Calls `turn` over and over, as another container that shares a volume would change it."""

    def __init__(self, turn):
        super().__init__(daemon=True)
        self.turn, self.stopping, self.turns, self.error = turn, threading.Event(), 0, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(60)

    def run(self):
        while not self.stopping.is_set():
            # The runtime makes and looks up files here at the same time.
            with contextlib.suppress(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, OSError):
                self.turn(self.turns)
            self.turns += 1


def put(path, make):
    """Replaces `path` at once by what `make` makes."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    make(new)
    os.rename(new, path)


def alternate(path, target):
    """A turn of a Swapper: a symlink to `target`, or an empty file."""
    return lambda turn: put(path, (lambda p: os.symlink(target, p)) if turn % 2 else lambda p: open(p, "w").close())


def test_s19_labels_of_an_image_steer_nothing(node):
    """CVE-2026-53488: labels in names that runtimes keep for themselves are shown with the image, and nowhere else."""
    w = Battle(node)
    proof = f"{node.dir}/ran"
    labels = {name: f"/bin/sh -c 'echo ran >{proof}'" for name in (
        "io.kubernetes.cri.container-type", "io.kubernetes.cri-o.userns-mode", "io.containerd.runc.v2.exec", "run.oci.handler",
        "org.criu.config", "cdi.k8s.io/gpu", "io.katacontainers.config.hypervisor.path", "crisp.handler", "module.wasm.image/variant")}
    w.image = w.client.PullImage(image=w.pb.ImageSpec(image=node.registry.push(
        harness.busybox_image(Labels=labels), "labels"))).image_ref
    pod, config = w.pod()
    container = w.container(pod, config, labels={"of": "request"}, annotations={"of": "request"})
    status = w.status(container)
    check_equal((dict(status.labels), dict(status.annotations)), ({"of": "request"}, {"of": "request"}), "labels and annotations")
    with open(f"{w.daemon.dir}/state/containers/{container}/config.json") as f:
        text = f.read()
    check_equal(json.loads(text)["process"]["args"][0], "/bin/sleep", "the program in config.json")
    check(f"echo ran >{proof}" not in text, "a label of the image came into config.json")
    check(not os.path.exists(proof), "a label was run")
    w.finish()


def test_s37_the_same_user_each_time(node):
    """CVE-2019-11245: whose processes a container's are does not depend on whether the image was there, was pulled again, or has
    run before."""
    w = Battle(node)
    reference = node.registry.push(harness.busybox_image(User="1234:567"), "user")
    pod, config = w.pod()
    for attempt in range(3):
        w.image = w.client.PullImage(image=w.pb.ImageSpec(image=reference)).image_ref
        for image in (w.image, reference):
            w.image = image
            container = w.container(pod, config, f"main{attempt}")
            check_equal(w.sh(container, "id -u; id -g").stdout, b"1234\n567\n", f"user of attempt {attempt} of {image}")
            w.client.StopContainer(container_id=container, timeout=0)
            w.client.RemoveContainer(container_id=container)
    w.finish()


def test_s24_program_of_the_shim(node):
    """CVE-2019-5736: who sees the node's processes cannot write to the program that started it, busy or not."""
    w = Battle(node)
    victim, _ = w.pod("victim")
    config = w.daemon.pod_config("attacker")
    config.linux.security_context.namespace_options.pid = w.pb.NODE
    config.linux.security_context.privileged = True
    pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
    attacker = w.container(pod, config, "main", linux=w.linux(pid=w.pb.NODE, privileged=True))
    pid = next(pid for pid, text in node.processes() if victim in text and "crisp-shim" in text)
    said = w.sh(attacker, f"exec 9</proc/{pid}/exe && echo opened; true >/proc/{pid}/exe || echo refused; true 2>/dev/null >>/proc/{pid}/exe || echo refused; "
                "chmod 777 /proc/self/fd/9 || echo refused")
    check_equal(said.stdout, b"opened\nrefused\nrefused\nrefused\n", f"{said}")
    check(b"Read-only file system" in said.stderr, f"refused because it is busy only: {said.stderr}")
    # A descriptor of it outlives the shim, and with it the reason "busy".
    script = f"exec 9</proc/{pid}/exe; echo ready; while [ -d /proc/{pid} ]; do sleep 0.05; done; true >/proc/self/fd/9 || echo refused; echo over"
    late = w.container(pod, config, "late", ["/bin/sh", "-c", script], linux=w.linux(pid=w.pb.NODE, privileged=True))
    eventually(lambda: "ready" in w.log(config, "late"), "the attacker has the program open")
    w.client.StopPodSandbox(pod_sandbox_id=victim)
    w.wait_exit(late)
    check("refused\n" in w.log(config, "late"), w.log(config, "late"))
    check("Read-only file system" in w.log(config, "late"), w.log(config, "late"))
    w.finish()


def test_s24_s31_execs_are_not_looked_into(node):
    """CVE-2024-21626, CVE-2016-9962: whoever may trace processes in a container reaches nothing of the node through the
    processes that commands are run by, at no moment."""
    w = Battle(node)
    for shared in (False, True):
        pid = w.pb.POD if shared else w.pb.CONTAINER
        config = w.daemon.pod_config(f"shared-{shared}")
        config.linux.security_context.namespace_options.pid = pid
        pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
        spy = w.spy(pod, config, w.linux("SYS_PTRACE", "SYS_ADMIN", pid=pid))
        eventually(lambda: "looking" in w.log(config, "spy"), "the spy looks")
        for _ in range(3 * ROUNDS):
            said = w.client.ExecSync(container_id=spy, cmd=["/bin/sh", "-c", "set -- /proc/self/fd/*; echo $#"], timeout=20)
            # 0, 1, 2 and the one that the shell reads the directory by.
            check_equal((said.exit_code, said.stdout), (0, b"4\n"), f"descriptors of a command: {said}")
        w.end_of_spy(config, spy)
        os.unlink(f"{w.control}/stop")
    w.finish()


def test_s31_working_directories_among_descriptors(node):
    w = Battle(node)
    pod, config = w.pod()
    for number, way in enumerate([f"/proc/self/fd/{fd}" for fd in range(3, 12)] + ["/proc/1/cwd", "/link"]):
        try:
            container = w.container(pod, config, f"c{number}", ["/bin/sh", "-c", f"pwd; [ -e .{w.mark} ] && echo LEAK; [ -e ../../../../..{w.mark} ] && echo LEAK; true"],
                                    working_dir=way)
        except grpc.RpcError:
            continue  # refused is well
        w.wait_exit(container)
        check("LEAK" not in w.log(config, f"c{number}"), w.log(config, f"c{number}"))
    w.finish()


def test_s25_mount_targets_are_swapped(node):
    """CVE-2021-30465: a directory in which a mount is to be made becomes a symlink, over and over."""
    w = Battle(node)
    volume, payload, outside = (f"{node.dir}/{name}" for name in ("volume", "payload", "outside"))
    for directory in (volume, payload, outside):
        os.makedirs(directory)
    with open(f"{payload}/from-payload", "w"):
        pass
    pod, config = w.pod()

    def turn(number):
        place = f"{volume}/place"
        if number % 2:
            shutil.rmtree(place, ignore_errors=True)
            os.symlink(outside, place)
        else:
            os.unlink(place)
            os.makedirs(place)
    started = 0
    with Swapper(turn) as swapper:
        for number in range(ROUNDS):
            mounts = [w.pb.Mount(container_path="/volume", host_path=volume), w.pb.Mount(container_path="/volume/place/sub", host_path=payload)]
            with contextlib.suppress(grpc.RpcError):
                container = w.container(pod, config, "c", ["/bin/sh", "-c", f"[ -e {w.mark} ] && echo LEAK; true"], mounts=mounts, attempt=number)
                w.wait_exit(container)
                started += 1
    check(swapper.turns > ROUNDS and started > 0, f"{swapper.turns} turns, {started} starts")
    check("LEAK" not in w.log(config, "c"), w.log(config, "c"))
    check_equal(os.listdir(outside), [], "made outside")
    w.finish()


def test_s26_masks(node):
    """CVE-2025-31133: /dev/null as a symlink while paths are masked. And what masks is the node's own file, which nobody inside
    can change."""
    w = Battle(node)
    dev = f"{node.dir}/dev"
    os.makedirs(dev)
    pod, config = w.pod()
    seen = "stat -c '%F %t:%T' /proc/keys /proc/timer_list /proc/kcore"
    started = 0
    with Swapper(alternate(f"{dev}/null", "/proc/sysrq-trigger")):
        for number in range(ROUNDS):
            with contextlib.suppress(grpc.RpcError):
                container = w.container(pod, config, "c", ["/bin/sh", "-c", seen], attempt=number,
                                        mounts=[w.pb.Mount(container_path="/dev", host_path=dev)])
                w.wait_exit(container)
                started += 1
    check(started > 0, "nothing started")
    lines = [line.split(" ", 3)[3] for line in w.log(config, "c").splitlines()]
    masked = [line for line in lines if not line.startswith("stat:")]
    check(len(masked) >= started and set(masked) == {"character special file 1:3"}, f"{set(lines)}")
    # Root with all that it can be given, short of privileged.
    container = w.container(pod, config, "owner", linux=w.linux("ALL"))
    said = w.sh(container, "f=/proc/keys; [ -e $f ] || f=/proc/kcore; chmod 666 $f || echo refused; chown 0:0 $f || echo refused; touch $f || echo refused; "
                "echo x >$f && echo written")
    check_equal(said.stdout, b"refused\nrefused\nrefused\nwritten\n", f"{said}")
    w.finish()


def test_s27_consoles(node):
    """CVE-2025-52565: /dev/console and the terminals as symlinks into /proc while a container with a terminal starts."""
    w = Battle(node)
    pod, config = w.pod()
    target = "/proc/self/attr/current"
    for volume, name, path in ((f"{node.dir}/dev", "console", "/dev"), (f"{node.dir}/pts", "0", "/dev/pts")):
        os.makedirs(volume)
        os.makedirs(f"{volume}/pts", exist_ok=True)
        with Swapper(alternate(f"{volume}/{name}", target)) as swapper:
            for number in range(ROUNDS):
                log = f"{name}-{number}"
                with contextlib.suppress(grpc.RpcError):
                    container = w.container(pod, config, log, ["/bin/sh", "-c", "stat -L -c '%F %t' /dev/console; [ /dev/console -ef /proc/self/fd/0 ] && echo same"],
                                            tty=True, mounts=[w.pb.Mount(container_path=path, host_path=volume)])
                    w.wait_exit(container)
                    text = w.log(config, log)
                    check("character special file 88" in text and "same" in text, f"/dev/console: {text}")
        check(swapper.turns > 0, "nothing was swapped")
    # A terminal's container whose image has such a symlink itself.
    said = w.container(pod, config, "plain", ["/bin/sh", "-c", "stat -L -c '%F %t' /dev/console"], tty=True)
    w.wait_exit(said)
    check("character special file 88" in w.log(config, "plain"), w.log(config, "plain"))
    w.finish()


EVIL = ["/bin/tar", "/usr/bin/tar", "/usr/bin/unpigz", "/usr/bin/pigz", "/usr/bin/zstd", "/usr/bin/getent", "/usr/sbin/criu", "/sbin/modprobe",
        "/usr/sbin/iptables", "/usr/sbin/nft", "/sbin/ip", "/usr/bin/nsenter", "/bin/mount", "/usr/bin/newuidmap", "/usr/bin/newgidmap",
        "/usr/bin/systemd-run", "/sbin/ldconfig", "/usr/bin/crisp-shim", "/usr/bin/runc"]
LIBRARIES = [f"/lib/x86_64-linux-gnu/libnss_{name}.so.2" for name in ("files", "compat", "dns", "evil", "systemd")]


def test_s42_nothing_of_an_image_runs_on_the_node(node):
    """CVE-2019-14271, CVE-2022-1227: programs and name service modules of an image are the container's business only."""
    w = Battle(node)
    proof = f"{node.dir}/ran"
    script = f"#!/bin/sh\necho $0 >>{proof}\n".encode()
    files = harness.busybox_files({path: (0o755, script) for path in EVIL} | {path: (0o755, b"\x7fELF no library") for path in LIBRARIES} | {
        "/etc/nsswitch.conf": b"passwd: evil\ngroup: evil\nhosts: evil\n", "/etc/ld.so.preload": b"/lib/x86_64-linux-gnu/libnss_evil.so.2\n",
        "/etc/passwd": b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", "/etc/group": b"root:x:0:\nmore:x:7:user\n",
        "/data/of-the-image": b"x"})
    image = node.registry.push(harness.Image([harness.layer_tar(files)], Cmd=["/bin/sh"], User="user", Volumes={"/data": {}}), "evil")
    w.image = w.client.PullImage(image=w.pb.ImageSpec(image=image)).image_ref
    pod, config = w.pod()
    container = w.container(pod, config, tty=True)
    check_equal(w.sh(container, "id -u; id -G; ls /data").stdout, b"1000\n1000 7\nof-the-image\n", "user and volume")
    # What our processes have mapped is the node's.
    for pid, text in node.processes():
        if "crispd" in text.split()[0] or "crisp-shim" in text.split()[0]:
            with open(f"/proc/{pid}/maps") as f:
                mapped = {line.split(None, 5)[5].strip() for line in f if len(line.split(None, 5)) == 6}
            ours = [f"{w.daemon.dir}/{part}/" for part in ("root/images", "root/containers", "state/containers")]
            check(not [path for path in mapped if path.startswith(tuple(ours))], f"mapped by {text}: {mapped}")
    w.client.ContainerStats(container_id=container)
    w.client.ReopenContainerLog(container_id=container)
    w.client.UpdateContainerResources(container_id=container, linux=w.pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    w.client.StopContainer(container_id=container, timeout=0)
    w.finish()
    check(not os.path.exists(proof), "ran on the node")


def test_s43_logs_are_swapped(node):
    """CVE-2018-15664 and its like: a container that can write where its log lies swaps it for a symlink while it is reopened."""
    w = Battle(node)
    config = w.daemon.pod_config("pod")
    pod = w.client.RunPodSandbox(config=config).pod_sandbox_id
    script = f"n=0; while [ ! -e /ctl/stop ]; do n=$((n+1)); echo line $n; ln -sf {w.mark} /logs/x; mv /logs/x /logs/main.log; echo >/logs/y; mv /logs/y /logs/main.log; done"
    container = w.container(pod, config, "main", ["/bin/sh", "-c", script], **(w.spying() | {"mounts": [
        w.pb.Mount(container_path="/logs", host_path=config.log_directory), w.pb.Mount(container_path="/ctl", host_path=w.control, readonly=True)]}))
    reopened = refused = 0
    for _ in range(10 * ROUNDS):
        try:
            w.client.ReopenContainerLog(container_id=container)
            reopened += 1
        except grpc.RpcError:
            refused += 1
        w.unharmed()
    print(f"# reopened {reopened} times, refused {refused} times")
    check(reopened > 0 and refused > 0, "the race was not met")
    check_equal(w.status(container).state, w.pb.CONTAINER_RUNNING, "the container goes on")
    w.client.StopContainer(container_id=container, timeout=0)
    w.finish()


if __name__ == "__main__":
    harness.main()
