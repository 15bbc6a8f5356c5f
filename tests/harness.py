"""What the program tests stand on: a node of their own (network and mount namespaces, directories, cgroups), a real
registry, images made of the machine's busybox, crispd itself, and the leak audit.

A test file is run by tools/run-tests (or by hand, as root) and prints TAP:

    import harness
    def test_something(node): ...        # each function test_* is one test; `node` is a fresh harness.Node
    harness.main()

Everything a Node makes lies in one temporary directory and in namespaces that end with the test process, and its
processes carry the environment variable CRISP_TEST, by which the audit and the clean-up find them. The machine's other
processes, mounts, links and cgroups are never touched.
"""
import os
import sys

if not os.path.samefile(sys.executable, "/usr/bin/python3"):
    os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])  # Debian's, which has python3-grpcio

import contextlib
import ctypes
import gzip
import hashlib
import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("CRISP_BUILD", f"{ROOT}/build")
PATIENCE = float(os.environ.get("CRISP_TEST_PATIENCE", "1"))  # factor of all bounds, for machines that are slow
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_SLAVE = 0x4000, 0x80000
PR_SET_CHILD_SUBREAPER = 36


class Skip(Exception):
    """Raised by a test that cannot run here; the text is the reason."""


def check(condition, message="check failed"):
    if not condition:
        raise AssertionError(message)


def check_equal(seen, wanted, what=""):
    if seen != wanted:
        raise AssertionError(f"{what}: saw {seen!r}, wanted {wanted!r}")


def check_error(call, code, text=""):
    """Calls; wants a gRPC error with this code name and this text in it."""
    import grpc
    try:
        reply = call()
    except grpc.RpcError as error:
        if error.code().name != code or text not in error.details():
            raise AssertionError(f"saw {error.code().name}: {error.details()!r}, wanted {code} with {text!r}") from None
        return error.details()
    raise AssertionError(f"no error, but {reply!r}; wanted {code} with {text!r}")


def eventually(probe, what, seconds=20):
    """Waits until probe() is true: for states that no event tells a test about. The bound is for a hang only."""
    until = time.monotonic() + seconds * PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def enter_namespaces():
    """Network and mount namespaces of our own; mounts of the host still arrive, ours stay here."""
    if LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if LIBC.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount --make-rslave /")
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of a killed crispd are ours to reap
    run("ip", "link", "set", "lo", "up")
    with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
        f.write("1")


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def parent_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[1])
    return None


def reap():
    """Reaps orphans that came to us; children of subprocess are left to it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None or info.si_pid in Node.direct_children:
                return
            os.waitpid(info.si_pid, 0)


# ---------------------------------------------------------------- images

def libraries_of(binary):
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
    return [m for m in re.findall(r"(/\S+) \(0x", listed)]


def layer_tar(files, compress=True):
    """files: {path: bytes | ("link", target) | ("hard", path) | ("dir", mode) | (mode, bytes)} → tar.gz bytes"""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        made = set()
        for path, value in files.items():
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                if parent not in made and f"/{parent}" not in files:
                    made.add(parent)
                    entry = tarfile.TarInfo(parent)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo("/".join(parts))
            if isinstance(value, bytes):
                value = (0o644, value)
            kind, what = value
            if kind == "link":
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, what, 0o777
                tar.addfile(entry)
            elif kind == "hard":
                entry.type, entry.linkname = tarfile.LNKTYPE, what.strip("/")
                tar.addfile(entry)
            elif kind == "dir":
                entry.type, entry.mode = tarfile.DIRTYPE, what
                tar.addfile(entry)
            else:
                entry.mode, entry.size = kind, len(what)
                tar.addfile(entry, io.BytesIO(what))
    return gzip.compress(out.getvalue(), 1, mtime=0) if compress else out.getvalue()


def busybox_files(more=None):
    with open("/bin/busybox", "rb") as f:
        files = {"/bin/busybox": (0o755, f.read())}
    for library in libraries_of("/bin/busybox"):
        with open(library, "rb") as f:
            files[library] = (0o755, f.read())
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            files[f"/bin/{applet}"] = ("link", "busybox")
    files |= {"/tmp": ("dir", 0o1777), "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
              "/etc/group": b"root:x:0:\nnogroup:x:65534:\n", "/root": ("dir", 0o700)}
    return files | (more or {})


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """An OCI image in memory: list of layer blobs (tar.gz) and a config."""

    def __init__(self, layers, history=None, **config):
        self.layers = layers
        diff_ids = [sha256(gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer) for layer in layers]
        self.config = json.dumps({"architecture": "amd64", "os": "linux", "config": config,
                                  "rootfs": {"type": "layers", "diff_ids": diff_ids},
                                  **({"history": history} if history else {})}).encode()
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(self.config),
                       "digest": sha256(self.config)},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": len(layer),
                        "digest": sha256(layer)} for layer in layers]}).encode()
        self.id = sha256(self.config)
        self.digest = sha256(self.manifest)

    def layout_tar(self, path, name="latest"):
        """Writes an OCI image layout archive."""
        index = {"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": len(self.manifest),
            "digest": self.digest, "annotations": {"org.opencontainers.image.ref.name": name}}]}
        with tarfile.open(path, "w") as tar:
            def add(member, data):
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            add("index.json", json.dumps(index).encode())
            for blob in [self.config, self.manifest, *self.layers]:
                add("blobs/sha256/" + sha256(blob)[7:], blob)


def busybox_image(**config):
    return Image([layer_tar(busybox_files())], **({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]} | config))


# ---------------------------------------------------------------- the node

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Registry:
    """Debian's docker-registry on loopback, storage below the node's directory."""

    def __init__(self, node):
        if shutil.which("docker-registry") is None:
            raise Skip("docker-registry is not installed")
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        directory = f"{node.dir}/registry"
        os.makedirs(directory)
        with open(f"{directory}/config.yml", "w") as f:
            f.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
                    f"http: {{addr: {self.host}}}\n")
        with open(f"{directory}/log", "wb") as log:
            self.process = node.start("docker-registry", "serve", f"{directory}/config.yml", stdout=log, stderr=log)

        def answers():
            with contextlib.suppress(OSError):
                return self.request("GET", "/v2/")[0] == 200
        eventually(answers, "the registry answers")

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * PATIENCE)
        connection.request(method, path, body=body, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()

    def push(self, image, name, tag="latest"):
        for blob in [image.config, *image.layers]:
            status, headers, _ = self.request("POST", f"/v2/{name}/blobs/uploads/")
            check_equal(status, 202, "start of an upload")
            location = headers["Location"].split(self.host)[-1]
            status, _, text = self.request("PUT", f"{location}&digest={sha256(blob)}", blob,
                                           {"Content-Type": "application/octet-stream"})
            check_equal(status, 201, f"upload: {text!r}")
        status, _, text = self.request("PUT", f"/v2/{name}/manifests/{tag}", image.manifest,
                                       {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        check_equal(status, 201, f"manifest: {text!r}")
        return f"{self.host}/{name}:{tag}"


class Crispd:
    """One crispd on the node. Ready is told by systemd's notify protocol, not guessed."""

    def __init__(self, node, name="crisp", settings=None, environment=None):
        self.node, self.name = node, name
        self.dir = f"{node.dir}/{name}"
        for sub in ("root", "state", "cni", "logs"):
            os.makedirs(f"{self.dir}/{sub}", exist_ok=True)
        if not os.path.ismount(f"{self.dir}/state"):  # what dies with the boot lies in memory, as /run does
            run("mount", "-t", "tmpfs", "-o", "mode=755", "run", f"{self.dir}/state")
        self.socket = f"{self.dir}/crisp.sock"
        self.endpoint = f"unix://{self.socket}"
        # The parent that pods name, and where it is below each hierarchy.
        driver = os.environ.get("CRISP_TEST_CGROUP_DRIVER", "cgroupfs")
        self.cgroup_parent = self.cgroup_top = f"/crisp-test-{node.id}"
        if driver == "systemd":
            self.cgroup_parent = f"crisptest-{node.id}.slice"
            self.cgroup_top = f"/crisptest.slice/{self.cgroup_parent}"
        self.settings = {
            "socket": self.socket, "root_dir": f"{self.dir}/root", "state_dir": f"{self.dir}/state",
            "cni.conf_dir": f"{self.dir}/cni", "log.level": "debug", "cgroup.driver": driver,
        } | (settings or {})
        self.environment = environment or {}
        self.process = None
        self.log_path = f"{self.dir}/crispd.log"

    def start(self, wait=True):
        notify_path = f"{self.dir}/notify"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify_path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(notify_path)
        arguments = [f"--set={key}={value}" for key, value in self.settings.items()]
        with open(self.log_path, "ab") as log:
            self.process = self.node.start(f"{BUILD}/bin/crispd", *arguments, stdout=log, stderr=log,
                                           env={"NOTIFY_SOCKET": notify_path, **self.environment})
        if not wait:
            return self
        notify.settimeout(0.05)
        until = time.monotonic() + 60 * PATIENCE
        with notify:
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in notify.recv(4096):
                        return self
                if self.process.poll() is not None:
                    break
        raise AssertionError(f"crispd did not become ready (exit code {self.process.poll()}):\n{self.log_tail()}")

    def log_tail(self, lines=40):
        with open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30 * PATIENCE)
        return self.process.returncode if self.process else None

    def client(self, **options):
        import cri
        return cri.Client(self.endpoint, **options)

    def pod_config(self, name, **more):
        import cri
        logs = f"{self.dir}/logs/{name}"
        os.makedirs(logs, exist_ok=True)
        return cri.pod_config(name, **({"log_directory": logs, "cgroup_parent": self.cgroup_parent} | more))

    def remove_all(self, client):
        """Removes every pod and container, as a kubelet that drains the node would."""
        for container in client.ListContainers().containers:
            client.StopContainer(container_id=container.id, timeout=0)
            client.RemoveContainer(container_id=container.id)
        for pod in client.ListPodSandbox().items:
            client.StopPodSandbox(pod_sandbox_id=pod.id)
            client.RemovePodSandbox(pod_sandbox_id=pod.id)

    def leaks(self):
        """What is left after everything was removed, as lines; empty when nothing is. crispd may be running or not."""
        found = []
        for line in open("/proc/self/mountinfo"):
            if self.dir in line.split()[4] and line.split()[4] not in (f"{self.dir}/root", f"{self.dir}/state"):
                found.append("mount " + line.split()[4])
        for link in json.loads(run("ip", "-j", "link")):
            if link["ifname"] not in self.node.links_allowed:
                found.append("link " + link["ifname"])
        if shutil.which("nft"):
            rules = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
            for entry in rules:
                elements = entry.get("set", entry.get("map", {})).get("elem")
                if elements:
                    found.append(f"nft elements {json.dumps(elements)[:200]}")
        for line in run("iptables-save").splitlines():
            if "CNI-" in line and not re.match(r"(:CNI-HOSTPORT|-A (PREROUTING|OUTPUT|POSTROUTING|CNI-HOSTPORT))", line):
                found.append("iptables " + line)
        for hierarchy in cgroup_mounts():
            top = hierarchy + self.cgroup_top
            for directory, _, _ in os.walk(top):
                if directory != top:
                    found.append("cgroup " + directory)
        running = {daemon.process.pid for daemon in self.node.daemons if daemon.process}
        for pid, command in self.node.processes():
            if " --fork-server " in command and parent_of(pid) in running:
                continue  # a part of a running crispd
            if os.path.basename(command.split()[0]) != "crispd" and re.search("crisp-shim|runc|crun", command):
                found.append(f"process {pid} {command}")
        for directory in ("state/pods", "state/containers", "state/netns", "root/containers", "root/removed", "root/images/tmp"):
            if os.path.isdir(f"{self.dir}/{directory}"):
                found += [f"file {directory}/{entry}" for entry in os.listdir(f"{self.dir}/{directory}")]
        for directory, _, files in os.walk(self.dir):
            if os.path.basename(os.path.dirname(directory)) == "networks":
                found += [f"address {directory}/{f}" for f in files if re.match(r"[0-9a-f.:]+$", f)]
        return found


    def check_clean(self, seconds=30):
        """Nothing is left. Removals that the kernel or crispd finishes in the background get a bounded time."""
        until = time.monotonic() + seconds * PATIENCE
        while True:
            reap()
            left = self.leaks()
            if not left:
                return
            if time.monotonic() > until:
                raise AssertionError("left behind:\n" + "\n".join(left[:40]))
            time.sleep(0.05)


def cgroup_mounts():
    return [line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup" in line]


class Node:
    """A machine of a test's own inside this one."""
    direct_children = set()

    def __init__(self):
        self.id = os.urandom(4).hex()
        self.dir = tempfile.mkdtemp(prefix="crisp-test-", dir="/var/tmp")
        self.children = []
        self.daemons = []
        # lo, and what some kernels put into each new network namespace (sit0, tunl0 …).
        self.links_allowed = {link["ifname"] for link in json.loads(run("ip", "-j", "link"))}
        self._registry = None

    def start(self, *command, env=None, **options):
        child = subprocess.Popen(command, env=os.environ | {"CRISP_TEST": self.id} | (env or {}),
                                 stdin=subprocess.DEVNULL, **options)
        self.children.append(child)
        Node.direct_children.add(child.pid)
        return child

    @property
    def registry(self):
        if self._registry is None:
            self._registry = Registry(self)
        return self._registry

    def crispd(self, name="crisp", settings=None, environment=None, bridge="crisptest0", subnet="10.88.0.0/16"):
        self.links_allowed.add(bridge)
        daemon = Crispd(self, name, {"network.fallback_bridge": bridge, "network.fallback_subnet": subnet,
                                     **(settings or {})}, environment)
        self.daemons.append(daemon)
        return daemon.start()

    def processes(self):
        """[(pid, command line)] of all processes that carry our marker, and of those in our cgroups."""
        marker = f"CRISP_TEST={self.id}".encode()
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/environ", "rb") as f:
                    ours = marker in f.read().split(b"\0")
                if not ours:  # a shim has a clean environment, but its directory on the command line
                    with open(f"/proc/{entry}/cmdline", "rb") as f:
                        ours = f"{self.dir}/".encode() in f.read()
                if not ours:
                    with open(f"/proc/{entry}/cgroup") as f:
                        text = f.read()
                    ours = f"/crisp-test-{self.id}/" in text or f"/crisptest-{self.id}.slice/" in text
                if ours:
                    with open(f"/proc/{entry}/cmdline", "rb") as f:
                        found[int(entry)] = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        return [(pid, text) for pid, text in found.items() if text]  # no command line: a zombie

    def close(self):
        """Ends and removes everything, whatever state the test left it in."""
        for daemon in self.daemons:
            with contextlib.suppress(Exception):
                daemon.stop()
        for _ in range(50):
            left = self.processes()
            if not left:
                break
            for pid, _ in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            reap()
            time.sleep(0.02)
        for child in self.children:
            with contextlib.suppress(Exception):
                child.kill()
            child.wait()
            Node.direct_children.discard(child.pid)
        reap()
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo") if line.split()[4].startswith(self.dir)]
        for mount in reversed(mounts):
            LIBC.umount2(mount.encode(), 2)
        for link in json.loads(run("ip", "-j", "link")):
            if link["ifname"] not in ("lo", "sit0", "tunl0"):
                subprocess.run(["ip", "link", "del", link["ifname"]], stderr=subprocess.DEVNULL)
        if shutil.which("nft"):
            run("nft", "flush", "ruleset")
        for hierarchy in cgroup_mounts():
            for directory, _, _ in sorted(os.walk(f"{hierarchy}/crisp-test-{self.id}"), reverse=True):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        shutil.rmtree(self.dir, ignore_errors=True)


def sanitizer_reports():
    """{(file, time): text} of what processes of a build with sanitizers have reported (src/base/sanitizer.cc)."""
    reports = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(f"{BUILD}/sanitizer"):
            with open(entry.path, errors="replace") as f:
                reports[entry.path, entry.stat().st_mtime_ns] = f.read()
    return reports


def print_comment(text, begin=""):
    print("".join(f"# {begin}{line}\n" for line in text.splitlines()), end="")


def run_test(test):
    """Runs the test on a node of its own: TAP's verdict and note. A sanitizer's report fails it."""
    node, known, verdict, note = Node(), sanitizer_reports(), "ok", ""
    try:
        test(node)
    except Skip as reason:
        note = f" # SKIP {reason}"
    except BaseException as error:  # a failed test must not stop the clean-up
        verdict = "not ok"
        print_comment(traceback.format_exc())
        for daemon in node.daemons:
            print_comment(daemon.log_tail(), "crispd: ")
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        node.close()
    for (path, when), text in sanitizer_reports().items():
        if (path, when) not in known:
            verdict = "not ok"
            print_comment(text, f"{os.path.basename(path)}: ")
    return verdict, note


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    wanted = sys.argv[1:]
    if wanted:
        tests = [(n, f) for n, f in tests if any(w in n for w in wanted)]
    if os.geteuid() != 0:
        print(f"1..{len(tests)}")
        for number, (name, _) in enumerate(tests, 1):
            print(f"ok {number} - {name} # SKIP needs root")
        return
    enter_namespaces()
    sys.path.insert(0, f"{ROOT}/tests")
    print(f"1..{len(tests)}", flush=True)
    failed = False
    for number, (name, test) in enumerate(tests, 1):
        verdict, note = run_test(test)
        print(f"{verdict} {number} - {name}{note}", flush=True)
        failed |= verdict != "ok"
    sys.exit(1 if failed else 0)
