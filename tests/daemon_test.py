#!/usr/bin/python3
"""crispd as a program: configuration, start, stop, locks, the socket, systemd's protocol."""
import harness
import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess

import grpc

from harness import BUILD, Skip, check, check_equal, check_error, eventually
from world import World

CRISPD = f"{BUILD}/bin/crispd"


def crispd(*arguments):
    return subprocess.run([CRISPD, *arguments], capture_output=True, text=True, timeout=30)


def test_config_verbs(node):
    default = crispd("config", "default")
    check_equal(default.returncode, 0, default.stderr)
    path = f"{node.dir}/crispd.toml"
    with open(path, "w") as f:
        f.write(default.stdout)
    check_equal(crispd("--config", path, "config", "check").returncode, 0, "check of the defaults")
    dumped = crispd("--config", path, "--set", "log.level=debug", "config", "dump")
    check('level = "debug"' in dumped.stdout, dumped.stdout)
    with open(path, "a") as f:
        f.write("\nunknown_key = 1\n")
    lines = default.stdout.count("\n") + 2
    refused = crispd("--config", path, "config", "check")
    check_equal(refused.returncode, 1, "an unknown key")
    check(f"crispd.toml:{lines}: unknown key" in refused.stderr, refused.stderr)
    check_equal(crispd("--config", path).returncode, 1, "the daemon refuses it too")
    # A value that is of the right kind, but wrong.
    with open(path, "w") as f:
        f.write('[log]\nlevel = "info"\nformat = "xml"\n[handlers."a.b"]\ntype = "oci"\nbinary = "/none"\n[handlers.c]\ntype = "oci"\n')
    refused = crispd("--config", path, "config", "check")
    check("crispd.toml:7: handlers.c.binary: missing" in refused.stderr, refused.stderr)
    refused = crispd("--config", path, "--set", "handlers.c.binary=/none", "config", "check")
    check('crispd.toml:3: log.format: "xml" is none of' in refused.stderr, refused.stderr)
    refused = crispd("--config", path, "--set", "handlers.c.binary=/none", "--set", "log.format=yaml", "config", "check")
    check('--set log.format: "yaml" is none of' in refused.stderr, refused.stderr)
    # A handler whose program is not there is left out; the default one may not be.
    settings = ("--set", "handlers.c.binary=/none", "--set", "log.format=text")
    warned = crispd("--config", path, *settings, "config", "check")
    check_equal(warned.returncode, 0, warned.stderr)
    check('warning: handlers.a.b.binary: no program "/none" is there' in warned.stderr, warned.stderr)
    refused = crispd("--config", path, *settings, "--set", "runtime.default_handler=c", "config", "check")
    check_equal(refused.returncode, 1, "a default handler without program")
    check("handlers.c.binary" in refused.stderr, refused.stderr)
    check_equal(crispd("--config", f"{node.dir}/missing.toml").returncode, 1, "a missing file")
    check_equal(crispd("--no-such-option").returncode, 2, "a bad command line")


def check_s50_modes(daemon):
    """Row S50: nobody but root finds anything in the directories; 0711 leads to mount points only."""
    state = f"{daemon.dir}/state"
    check_equal(stat.S_IMODE(os.stat(state).st_mode), 0o711, "mode of the state directory")
    for directory in (f"{state}/pods", f"{state}/containers", f"{daemon.dir}/root/containers"):
        check_equal(stat.S_IMODE(os.stat(directory).st_mode), 0o700, f"mode of {directory}")
    for name in os.listdir(state):
        path = f"{state}/{name}"
        if os.path.isfile(path):
            check_equal(stat.S_IMODE(os.stat(path).st_mode) & 0o077, 0, f"mode of {path}")


def test_version_status_and_a_clean_end(node):
    daemon = node.crispd()
    client = daemon.client()
    version = client.Version()
    check_equal((version.version, version.runtime_name, version.runtime_api_version), ("0.1.0", "crisp", "v1"))
    status = client.Status(verbose=True)
    check_equal({c.type: c.status for c in status.status.conditions}, {"RuntimeReady": True, "NetworkReady": True})
    check("" in {h.name for h in status.runtime_handlers}, "no default handler")
    usage = client.ImageFsInfo()
    for filesystem in list(usage.image_filesystems) + list(usage.container_filesystems):
        check(os.path.isdir(filesystem.fs_id.mountpoint), filesystem.fs_id.mountpoint)
        check(filesystem.HasField("used_bytes") and filesystem.timestamp > 0, str(filesystem))
    check_equal(stat.S_IMODE(os.stat(daemon.socket).st_mode), 0o600, "mode of the socket")
    check_equal(stat.S_IMODE(os.stat(f"{daemon.dir}/root").st_mode), 0o700, "mode of the root directory")
    check_s50_modes(daemon)
    check_error(lambda: client.CheckpointContainer(container_id="x", location="/var/tmp/x"), "UNIMPLEMENTED", "turned off")
    check_equal(daemon.stop(), 0, "exit code after SIGTERM")
    check(not os.path.exists(daemon.socket), "the socket is still there")


def test_one_daemon_to_a_directory(node):
    daemon = node.crispd()
    for changed in ({"state_dir": f"{node.dir}/other-state"}, {"root_dir": f"{node.dir}/other-root"}):
        settings = daemon.settings | {"socket": f"{node.dir}/other.sock"} | changed
        second = crispd(*[f"--set={k}={v}" for k, v in settings.items()])
        check_equal(second.returncode, 1, "a second daemon on the same directory")
        check(f"pid {daemon.process.pid}" in second.stderr, second.stderr)
    settings = daemon.settings | {"state_dir": f"{node.dir}/s2", "root_dir": f"{node.dir}/r2"}
    second = crispd(*[f"--set={k}={v}" for k, v in settings.items()])
    check("listens on" in second.stderr, second.stderr)
    check_equal(daemon.client().Version().version, "0.1.0", "the first one still serves")


def test_two_daemons_side_by_side(node):
    one = node.crispd("one", bridge="crisptest1", subnet="10.91.0.0/24")
    two = node.crispd("two", bridge="crisptest2", subnet="10.92.0.0/24")
    for daemon in (one, two):
        check_equal(daemon.client().Version().runtime_name, "crisp", "version")
    check_equal(one.stop(), 0, "exit code")
    check_equal(two.client().Version().runtime_name, "crisp", "the other one after the end of the first")


def test_kill_and_start_again(node):
    daemon = node.crispd()
    for _ in range(5):
        daemon.kill()
        check(os.path.exists(daemon.socket), "a killed daemon leaves its socket")
        daemon.start()
        check_equal(daemon.client().Version().version, "0.1.0", "version")


def test_watchdog_and_stopping_are_told(node):
    path = f"{node.dir}/watch"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(path)
    notify.settimeout(30)
    daemon = node.crispd("w", environment={"WATCHDOG_USEC": "40000"})
    daemon.stop()
    daemon.environment["NOTIFY_SOCKET"] = path
    daemon.start(wait=False)
    while b"READY=1" not in notify.recv(4096):
        pass
    for _ in range(3):
        check_equal(notify.recv(4096), b"WATCHDOG=1", "after READY")
    daemon.process.send_signal(signal.SIGINT)
    while (message := notify.recv(4096)) != b"STOPPING=1":
        check_equal(message, b"WATCHDOG=1", "before STOPPING")
    check_equal(daemon.process.wait(timeout=30), 0, "exit code after SIGINT")


def test_many_idle_clients(node):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    daemon = node.crispd()
    with contextlib.ExitStack() as stack:
        for _ in range(2000):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(daemon.socket)
        check_equal(daemon.client().Version().version, "0.1.0", "beside 2000 idle connections")
    fds = f"/proc/{daemon.process.pid}/fd"
    eventually(lambda: len(os.listdir(fds)) < 200, "their descriptors are closed")


@contextlib.contextmanager
def no_more_tasks(daemon):
    """crispd in a cgroup that has as many tasks as it may."""
    mounts = harness.cgroup_mounts()
    root = next((m for m in mounts if os.path.exists(f"{m}/cgroup.controllers") and "pids" in open(f"{m}/cgroup.controllers").read()),
                next((m for m in mounts if "pids" in os.path.basename(m).split(",")), None))
    if root is None:
        raise Skip("no cgroup hierarchy with pids")
    place = f"{root}{daemon.cgroup_top}/few-tasks"
    os.makedirs(place, exist_ok=True)
    pid = daemon.process.pid
    with open(f"/proc/{pid}/cgroup") as f:
        before = next(line.rstrip("\n").split(":")[2] for line in f if ":pids:" in line or line.startswith("0::"))

    def write(path, text):
        with open(path, "w") as f:
            f.write(text)

    for parent in (root, root + daemon.cgroup_top):
        if os.path.exists(f"{parent}/cgroup.subtree_control"):
            write(f"{parent}/cgroup.subtree_control", "+pids")
    write(f"{place}/cgroup.procs", str(pid))
    with open(f"{place}/pids.current") as f:
        write(f"{place}/pids.max", f.read())
    try:
        yield
    finally:
        write(f"{place}/pids.max", "max")
        with contextlib.suppress(OSError):  # the node removes it then
            write(f"{root}{before}/cgroup.procs", str(pid))
            os.rmdir(place)


def test_no_thread_is_to_be_had(node):
    """What needs another thread does without, or is refused; crispd lives on, and works as soon as there are threads again."""
    w = World(node)
    pods = [w.pod(name) for name in ("one", "two")]
    containers = [w.container(*pod) for pod in pods]
    w.client.PodSandboxStats(pod_sandbox_id=pods[0][0])  # a thread for such calls
    refused = []
    with no_more_tasks(w.daemon):
        # Their networks have not been read before: a thread enters them.
        check_equal(len(w.client.ListPodSandboxStats().stats), 2, "pods with stats")
        for call in (lambda: w.pod("three"), lambda: w.container(*pods[1], name="more"),
                     lambda: w.client.ExecSync(container_id=containers[1], cmd=["/bin/true"]),
                     lambda: w.client.StopPodSandbox(pod_sandbox_id=pods[0][0])):
            try:
                call()
            except grpc.RpcError as error:
                refused.append((error.code().name, error.details()))
        check_equal(w.daemon.process.poll(), None, "crispd's exit code")
    check_equal({code for code, _ in refused} - {"RESOURCE_EXHAUSTED"}, set(), refused)
    check_equal(w.client.ExecSync(container_id=containers[1], cmd=["/bin/true"]).exit_code, 0, "an exec afterwards")
    w.container(*w.pod("four"))
    w.finish()


def test_metrics_page(node):
    port = harness.free_port()
    daemon = node.crispd(settings={"metrics.address": f"127.0.0.1:{port}"})
    daemon.client().Version()
    import urllib.request
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read().decode()
    check('crisp_calls_total{method="Version",code="OK"} 1\n' in page, page)
    check("\ncrisp_pods 0\n" in page, page)


if __name__ == "__main__":
    harness.main()
