#!/usr/bin/python3
"""crisp-oci by runc's command line: the life of a container, further processes, hooks, terminals, limits, and what is left
when it is deleted; and Debian's podman with it as its runtime."""
import harness
import array
import contextlib
import glob
import json
import os
import pty
import shutil
import signal
import socket
import subprocess

from harness import Skip, check, check_equal, eventually

CRISP_OCI = f"{harness.BUILD}/bin/crisp-oci"


class Bundle:
    """A root file system of busybox, config.json, and crisp-oci with a root of its own."""

    def __init__(self, node, name="c1", program=CRISP_OCI):
        self.node, self.name, self.program = node, name, program
        self.root = f"{node.dir}/oci-root"
        self.dir = f"{node.dir}/{name}"
        self.cgroup = f"/crisp-test-{node.id}/{name}"
        self.rootfs = f"{self.dir}/rootfs"
        for sub in ("bin", "proc", "dev", "sys", "tmp", "etc"):
            os.makedirs(f"{self.rootfs}/{sub}", exist_ok=True)
        self.copy_busybox()
        harness.run(program, "spec", "--bundle", self.dir)
        with open(f"{self.dir}/config.json") as f:
            self.config = json.load(f)
        self.config["process"]["terminal"] = False
        self.config["process"]["env"] = ["PATH=/bin"]
        self.config["root"]["readonly"] = False
        self.config["linux"]["cgroupsPath"] = self.cgroup

    def copy_busybox(self):
        shutil.copy("/bin/busybox", f"{self.rootfs}/bin/busybox")
        for applet in harness.run("/bin/busybox", "--list").split():
            if applet != "busybox":
                os.symlink("busybox", f"{self.rootfs}/bin/{applet}")
        for library in harness.libraries_of("/bin/busybox"):
            os.makedirs(os.path.dirname(self.rootfs + library), exist_ok=True)
            shutil.copy(library, self.rootfs + library)

    def save(self, *args, **process):
        if args:
            self.config["process"]["args"] = list(args)
        self.config["process"].update(process)
        with open(f"{self.dir}/config.json", "w") as f:
            json.dump(self.config, f)

    def call(self, *words, flags=(), **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60} | options
        environment = os.environ | {"CRISP_TEST": self.node.id} | options.pop("env", {})
        return subprocess.run([self.program, "--root", self.root, *flags, *words], text=True, env=environment, **options)

    def run(self, *words, **options):
        done = self.call(*words, **options)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def fails(self, *words, text="", code=1, **options):
        done = self.call(*words, **options)
        check_equal(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        check(text in done.stderr, f"{words}: saw {done.stderr!r}, wanted {text!r}")
        return done.stderr

    def state(self):
        return json.loads(self.run("state", self.name))

    def status(self):
        return self.state()["status"]

    def create(self, *more):
        # Its stdio stays open with the container's process: pipes of ours would never end.
        with open(f"{self.dir}/out", "wb") as out:
            done = self.call("create", "--bundle", self.dir, *more, self.name, stdout=out, stderr=out)
        check_equal(done.returncode, 0, f"create: {self.output()}")

    def output(self):
        with open(f"{self.dir}/out") as f:
            return f.read()

    def stopped(self):
        harness.reap()
        return self.status() == "stopped"

    def cgroups(self):
        return [d for d in glob.glob(f"/sys/fs/cgroup/**{self.cgroup}", recursive=True)]

    def check_gone(self):
        self.fails("state", self.name, text="does not exist")
        check_equal(os.listdir(self.root), [], "states left")
        check_equal(self.cgroups(), [], "cgroups left")


def file_of(bundle, controller, v1, v2):
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    path = f"/sys/fs/cgroup{bundle.cgroup}/{v2}" if unified else f"/sys/fs/cgroup/{controller}{bundle.cgroup}/{v1}"
    with open(path) as f:
        return f.read().strip()


def test_run_to_the_end(node):
    bundle = Bundle(node)
    bundle.save("sh", "-c", "echo out; echo err >&2; hostname; exit 7")
    done = bundle.call("run", "--bundle", bundle.dir, bundle.name)
    check_equal((done.returncode, done.stdout, done.stderr), (7, "out\ncrisp\n", "err\n"), "run")
    bundle.check_gone()
    bundle.save("sh", "-c", "kill -9 $$")
    # The init of a PID namespace is not killed by itself; so from outside of one.
    bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "pid"]
    bundle.save()
    check_equal(bundle.call("run", "--bundle", bundle.dir, bundle.name).returncode, 137, "killed")
    bundle.check_gone()


def test_life(node):
    bundle = Bundle(node)
    bundle.config["annotations"] = {"org.example": "x"}
    bundle.save("sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
    bundle.create("--pid-file", f"{bundle.dir}/pid")
    state = bundle.state()
    check_equal((state["status"], state["bundle"], state["annotations"]), ("created", bundle.dir, {"org.example": "x"}), "state")
    with open(f"{bundle.dir}/pid") as f:
        check_equal(int(f.read()), state["pid"], "pid file")
    check_equal(bundle.output(), "", "it waits")
    check(len(bundle.cgroups()) > 0, "its cgroup is there")
    bundle.fails("create", "--bundle", bundle.dir, bundle.name, text="exists already")
    bundle.run("start", bundle.name)
    eventually(lambda: bundle.output() == "up\n", "it runs")
    check_equal(bundle.status(), "running", "status")
    bundle.fails("start", bundle.name, text="running")
    bundle.fails("delete", bundle.name, text="not stopped")
    check_equal(json.loads(bundle.run("list", "-f", "json"))[0]["id"], bundle.name, "list")
    check_equal(bundle.run("list", "-q"), f"{bundle.name}\n", "list -q")
    check(state["pid"] in json.loads(bundle.run("ps", "-f", "json", bundle.name)), "ps")
    check("echo up" in bundle.run("ps", bundle.name), "ps as a table")
    bundle.run("kill", bundle.name, "TERM")
    eventually(bundle.stopped, "it stops")
    check_equal(bundle.output(), "up\nbye\n", "what it said")
    bundle.fails("kill", bundle.name, text="not running")
    bundle.fails("exec", bundle.name, "true", text="stopped", code=255)
    bundle.run("delete", bundle.name)
    bundle.check_gone()
    bundle.fails("delete", bundle.name, text="does not exist")
    bundle.run("delete", "--force", bundle.name)


def test_delete_of_created_and_forced(node):
    bundle = Bundle(node)
    bundle.save("sleep", "1000")
    bundle.create()
    bundle.run("delete", bundle.name)
    harness.reap()
    bundle.check_gone()
    bundle.run("run", "--detach", "--bundle", bundle.dir, bundle.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check_equal(bundle.status(), "running", "status")
    bundle.run("delete", "--force", bundle.name)
    harness.reap()
    bundle.check_gone()


def test_exec(node):
    bundle = Bundle(node)
    bundle.config["process"]["user"] = {"uid": 0, "gid": 0}
    bundle.save("sleep", "1000")
    bundle.create()
    bundle.run("start", bundle.name)
    done = bundle.call("exec", "--env", "A=b", "--cwd", "/tmp", "--user", "5:6", bundle.name, "sh", "-c",
                       "echo $A $(pwd) $(id -u):$(id -g); cat; exit 9", input="in\n", stdin=None)
    check_equal((done.returncode, done.stdout), (9, "b /tmp 5:6\nin\n"), "exec")
    with open(f"{bundle.dir}/process.json", "w") as f:
        json.dump({"args": ["sh", "-c", "echo $X"], "cwd": "/", "env": ["PATH=/bin", "X=y"], "user": {"uid": 0, "gid": 0}}, f)
    check_equal(bundle.run("exec", "--process", f"{bundle.dir}/process.json", bundle.name), "y\n", "exec --process")
    with open(f"{bundle.dir}/exec-out", "wb") as out:
        done = bundle.call("exec", "-d", "--pid-file", f"{bundle.dir}/exec-pid", bundle.name, "sh", "-c", "echo there; sleep 1000",
                           stdout=out, stderr=out)
    check_equal(done.returncode, 0, "exec -d")
    with open(f"{bundle.dir}/exec-pid") as f:
        pid = int(f.read())
    check(pid in json.loads(bundle.run("ps", "-f", "json", bundle.name)), "the exec is in the cgroup")
    bundle.fails("exec", bundle.name, "missing", text="missing", code=255)
    bundle.run("kill", "--all", bundle.name, "KILL")
    eventually(bundle.stopped, "all are killed")
    eventually(lambda: (harness.reap(), not os.path.exists(f"/proc/{pid}"))[1], "the exec is killed, too")
    bundle.run("delete", bundle.name)
    bundle.check_gone()


def test_hooks(node):
    bundle = Bundle(node)
    log = f"{bundle.dir}/hooks"
    os.mkdir(log)

    def hook(kind):
        # Each writes the state that it gets, under a number that tells the order.
        script = f"cat > {log}/$(ls {log} | wc -l)-{kind}"
        return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]

    bundle.config["hooks"] = {kind: hook(kind) for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /started"], "env": ["PATH=/bin"]}]
    bundle.save("sleep", "1000")
    bundle.create()
    check_equal(sorted(os.listdir(log)), ["0-prestart", "1-createRuntime", "2-createContainer"], "at create")
    bundle.run("start", bundle.name)
    check_equal(sorted(os.listdir(log))[3:], ["3-poststart"], "before start has returned")
    with open(f"{log}/3-poststart") as f:
        state = json.load(f)
    check_equal((state["id"], state["status"], state["pid"]), (bundle.name, "running", bundle.state()["pid"]), "the state that it gets")
    with open(f"{bundle.rootfs}/started") as f:
        check_equal(json.load(f)["status"], "created", "startContainer")
    bundle.run("delete", "-f", bundle.name)
    check_equal(sorted(os.listdir(log))[4:], ["4-poststop"], "after the deletion")
    with open(f"{log}/4-poststop") as f:
        check_equal(json.load(f)["status"], "stopped", "poststop")
    harness.reap()
    bundle.check_gone()
    # Those that fail after the start, and do not read their state, hold up nothing.
    big = {"org.example": "x" * 200000}
    bundle.config["annotations"] = big
    bundle.config["hooks"] = {kind: [{"path": "/bin/false"}] + hook(kind) for kind in ("poststart", "poststop")}
    bundle.save()
    shutil.rmtree(log)
    os.mkdir(log)
    bundle.create()
    bundle.run("start", bundle.name)
    bundle.run("delete", "-f", bundle.name)
    harness.reap()
    bundle.check_gone()
    check_equal(sorted(os.listdir(log)), ["0-poststart", "1-poststop"], "the others run")
    # A hook that fails keeps the container from being made.
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo broken >&2; exit 3"]}]}
    bundle.save()
    bundle.fails("create", "--bundle", bundle.dir, bundle.name, text="broken")
    bundle.check_gone()


def receive_terminal(listener):
    connection, _ = listener.accept()
    data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(4))
    check(data, "the terminal's name")
    return array.array("i", ancillary[0][2][:4])[0]


def read_until(fd, text, seconds=20):
    import select
    seen = b""
    while text not in seen:
        check(select.select([fd], [], [], seconds)[0], f"saw {seen!r}, wanted {text!r}")
        try:
            got = os.read(fd, 4096)
        except OSError:
            got = b""
        check(got, f"the end after {seen!r}, wanted {text!r}")
        seen += got
    return seen


def test_terminal_by_console_socket(node):
    bundle = Bundle(node)
    bundle.save("sh", "-c", "tty; stty size; read line; echo got $line; sleep 1000", terminal=True,
                consoleSize={"width": 90, "height": 30})
    bundle.fails("create", "--bundle", bundle.dir, bundle.name, text="console-socket")
    path = f"{bundle.dir}/console"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()
        bundle.create("--console-socket", path)
        master = receive_terminal(listener)
        bundle.run("start", bundle.name)
        check(b"30 90" in read_until(master, b"30 90"), "its size")
        os.write(master, b"hello\n")
        read_until(master, b"got hello")
        with open(f"{bundle.dir}/exec-out", "wb") as out:
            done = bundle.call("exec", "-d", "-t", "--console-socket", path, bundle.name, "sh", "-c", "tty; sleep 1000", stdout=out, stderr=out)
        check_equal(done.returncode, 0, "exec -t")
        read_until(receive_terminal(listener), b"/dev/pts/1")
    bundle.run("delete", "-f", bundle.name)
    harness.reap()
    bundle.check_gone()


def test_terminal_in_the_foreground(node):
    bundle = Bundle(node)
    bundle.save("sh", "-c", "stty size; read line; echo got $line; exit 4", terminal=True)
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 70, 0, 0))
    child = node.start(CRISP_OCI, "--root", bundle.root, "run", "--bundle", bundle.dir, bundle.name)
    check_equal(child.wait(), 4, "stdin that ends at once")
    child = subprocess.Popen([CRISP_OCI, "--root", bundle.root, "run", "--bundle", bundle.dir, bundle.name], stdin=slave, stdout=slave,
                             stderr=slave, env=os.environ | {"CRISP_TEST": node.id})
    harness.Node.direct_children.add(child.pid)
    read_until(master, b"\n")
    os.write(master, b"hi\r")
    read_until(master, b"got hi")
    check_equal(child.wait(), 4, "exit code")
    bundle.check_gone()


def test_signals_are_passed_on(node):
    bundle = Bundle(node)
    bundle.save("sh", "-c", "trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    with open(f"{bundle.dir}/out", "wb") as out:
        child = node.start(CRISP_OCI, "--root", bundle.root, "run", "--bundle", bundle.dir, bundle.name, stdout=out, stderr=out)
    eventually(lambda: bundle.output() == "up\n", "it runs")
    child.send_signal(signal.SIGTERM)
    check_equal(child.wait(), 5, "exit code")
    bundle.check_gone()


def test_pause_resume_update_events(node):
    bundle = Bundle(node)
    bundle.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    bundle.config["linux"]["resources"]["pids"] = {"limit": 50}
    bundle.save("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    bundle.create()
    bundle.run("start", bundle.name)
    eventually(lambda: bundle.output(), "it runs")
    bundle.run("pause", bundle.name)
    check_equal(bundle.status(), "paused", "status")
    before = bundle.output()
    bundle.fails("exec", bundle.name, "true", text="paused", code=255)
    bundle.fails("pause", bundle.name, text="paused")
    check_equal(bundle.output(), before, "it stands still")
    bundle.run("resume", bundle.name)
    eventually(lambda: len(bundle.output()) > len(before), "it goes on")
    check_equal(file_of(bundle, "pids", "pids.max", "pids.max"), "50", "pids")
    bundle.run("update", "--pids-limit", "60", "--memory", "80m", bundle.name)
    check_equal(file_of(bundle, "pids", "pids.max", "pids.max"), "60", "pids")
    bundle.run("update", "-r", "-", bundle.name, input='{"memory": {"limit": 100000000}}', stdin=None)
    check_equal(file_of(bundle, "memory", "memory.limit_in_bytes", "memory.max"), str(100000000 // 4096 * 4096), "memory")
    stats = json.loads(bundle.run("events", "--stats", bundle.name))
    check_equal((stats["type"], stats["id"]), ("stats", bundle.name), "events")
    check_equal(stats["data"]["pids"]["limit"], 60, "limit of processes")
    check(stats["data"]["memory"]["usage"]["usage"] > 0 and stats["data"]["cpu"]["usage"]["total"] > 0, f"{stats}")
    events = node.start(CRISP_OCI, "--root", bundle.root, "events", "--interval", "20ms", bundle.name, stdout=subprocess.PIPE)
    check_equal(json.loads(events.stdout.readline())["type"], "stats", "followed events")
    bundle.run("pause", bundle.name)
    bundle.run("kill", bundle.name, "KILL")
    eventually(bundle.stopped, "a paused one dies of SIGKILL")
    check_equal(events.wait(), 0, "events end with the container")
    bundle.run("delete", bundle.name)
    bundle.check_gone()


def test_out_of_memory_is_an_event(node):
    bundle = Bundle(node)
    bundle.config["linux"]["resources"]["memory"] = {"limit": 16 << 20}
    bundle.save("sh", "-c", "while :; do dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 0.1; done")
    bundle.create()
    bundle.run("start", bundle.name)
    events = node.start(CRISP_OCI, "--root", bundle.root, "events", "--interval", "1h", bundle.name, stdout=subprocess.PIPE)
    check_equal(json.loads(events.stdout.readline()), {"type": "oom", "id": bundle.name}, "event")
    bundle.run("delete", "-f", bundle.name)
    check_equal(events.wait(), 0, "events end with the container")
    harness.reap()
    bundle.check_gone()


def test_cgroup_of_others_is_refused(node):
    first, second = Bundle(node), Bundle(node, "c2")
    first.save("sleep", "1000")
    first.create()
    second.config["linux"]["cgroupsPath"] = first.cgroup
    second.save("true")
    second.fails("create", "--bundle", second.dir, second.name, text="has processes already")
    check_equal(first.status(), "created", "the other one lives")
    second.config["linux"]["cgroupsPath"] = f"/crisp-test-{node.id}"
    second.save()
    second.fails("create", "--bundle", second.dir, second.name, text="has processes already")
    first.run("delete", "-f", first.name)


def test_refusals_leave_nothing(node):
    bundle = Bundle(node)
    bundle.save("missing-program")
    bundle.fails("create", "--bundle", bundle.dir, bundle.name, text="missing-program")
    bundle.check_gone()
    bundle.save("true")
    bundle.fails("create", "--bundle", bundle.dir, "../escape", text="not valid")
    bundle.config["linux"]["resources"]["pids"] = {"limit": "many"}
    bundle.save()
    bundle.fails("run", "--bundle", bundle.dir, bundle.name, text="limit")
    bundle.check_gone()
    log = f"{bundle.dir}/log.json"
    bundle.fails("state", "nobody", flags=("--log", log, "--log-format", "json"))
    with open(log) as f:
        line = json.loads(f.read().splitlines()[-1])
    check_equal((line["level"], "does not exist" in line["msg"]), ("error", True), "the log")


def test_who_creates_may_be_killed(node):
    bundle = Bundle(node)
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo > {bundle.dir}/here; sleep 1000"]}]}
    bundle.save("sleep", "1000")
    child = node.start(CRISP_OCI, "--root", bundle.root, "create", "--bundle", bundle.dir, bundle.name)
    eventually(lambda: os.path.exists(f"{bundle.dir}/here"), "the hook runs")
    check_equal(bundle.status(), "creating", "status")
    child.kill()
    child.wait()
    eventually(bundle.stopped, "a creation without a creator is none")
    bundle.run("delete", bundle.name)
    bundle.check_gone()


# ---------------------------------------------------------------- podman

def test_checkpoint_and_restore(node):
    """A counter goes on where it was: in the container that stays, and in one made of its images."""
    if not shutil.which("criu"):
        raise Skip("criu is not installed")
    checked = subprocess.run(["criu", "check"], capture_output=True, text=True)
    if checked.returncode != 0:
        raise Skip(f"criu check: {checked.stderr.strip().splitlines()[-1] if checked.stderr.strip() else checked.returncode}")
    bundle = Bundle(node)
    bundle.save("/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done")

    def count():
        with open(f"{bundle.rootfs}/count") as f:
            return int(f.read().strip() or 0)
    # CRIU keeps no file of the node that is open: its stdio is /dev/null, which is the container's own.
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    check_equal(bundle.call("create", "--bundle", bundle.dir, bundle.name, **nothing).returncode, 0, "create")
    bundle.run("start", bundle.name)
    eventually(lambda: os.path.exists(f"{bundle.rootfs}/count") and count() >= 3, "the counter counts", 60)
    images = f"{node.dir}/images"

    def call(*words):
        done = bundle.call(*words, timeout=300)
        if done.returncode != 0:
            for log in glob.glob(f"{images}/*.log"):
                with open(log) as f:
                    print("# " + "# ".join([line for line in f if "rror" in line or "arn" in line][-20:]), flush=True)
            raise AssertionError(f"{words}: {done.stderr}")
    call("checkpoint", "--image-path", images, "--leave-running", bundle.name)
    before = count()
    eventually(lambda: count() > before, "the container goes on", 60)
    call("checkpoint", "--image-path", images, bundle.name)
    bundle.check_gone()
    kept = count()
    done = bundle.call("restore", "--detach", "--image-path", images, "--bundle", bundle.dir, bundle.name, timeout=300, **nothing)
    if done.returncode != 0:
        with open(f"{images}/restore.log") as f:
            print("# " + "# ".join([line for line in f if "rror" in line or "arn" in line][-20:]), flush=True)
    check_equal(done.returncode, 0, "restore")
    eventually(lambda: count() > kept, "the restored counter counts", 60)
    check(count() <= kept + 50, f"{kept} became {count()}")
    check_equal(bundle.status(), "running", "status")
    check_equal(bundle.run("exec", bundle.name, "/bin/sh", "-c", "echo here").strip(), "here", "exec in what was restored")
    bundle.run("delete", "--force", bundle.name)
    bundle.check_gone()


def test_scope_of_systemd(node):
    if os.environ.get("CRISP_TEST_CGROUP_DRIVER") != "systemd":
        raise Skip("CRISP_TEST_CGROUP_DRIVER is not systemd")
    bundle = Bundle(node)
    flags = ("--systemd-cgroup",)
    scope = f"crisptest-{node.id}.scope"
    bundle.config["linux"]["cgroupsPath"] = f"system.slice:crisptest:{node.id}"
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    bundle.save("/bin/sh", "-c", "sleep 1000")
    with open(f"{bundle.dir}/out", "wb") as out:
        done = bundle.call("create", "--bundle", bundle.dir, bundle.name, flags=flags, stdout=out, stderr=out)
    check_equal(done.returncode, 0, f"create: {bundle.output()}")
    bundle.run("start", bundle.name, flags=flags)
    with open(f"/proc/{bundle.state()['pid']}/cgroup") as f:
        check(scope in f.read(), "not in its scope")
    directory = f"/sys/fs/cgroup/system.slice/{scope}"

    def limit(name):
        with open(f"{directory}/{name}") as f:
            return int(f.read())
    check_equal((limit("memory.max"), limit("pids.max")), (64 << 20, 50), "limits")
    check_equal(bundle.run("exec", bundle.name, "/bin/echo", "in", flags=flags).strip(), "in", "exec")
    bundle.run("update", "--memory", str(80 << 20), bundle.name, flags=flags)
    check_equal(limit("memory.max"), 80 << 20, "limit after the update")
    bundle.run("delete", "--force", bundle.name, flags=flags)
    bundle.check_gone()
    eventually(lambda: not os.path.exists(directory), "the scope is gone", 30)


class Podman:
    """podman with stores and configuration of its own; CRISP_PODMAN may name one that is not installed."""

    def __init__(self, node):
        self.node = node
        self.program = os.environ.get("CRISP_PODMAN") or shutil.which("podman")
        if not self.program:
            raise Skip("no podman")
        with open(f"{node.dir}/policy.json", "w") as f:
            json.dump({"default": [{"type": "insecureAcceptAnything"}]}, f)
        with open(f"{node.dir}/containers.conf", "w") as f:
            f.write('[engine]\nevents_logger = "file"\n')
            if os.environ.get("CRISP_CONMON"):
                f.write(f'conmon_path = ["{os.environ["CRISP_CONMON"]}"]\n')
        with open(f"{node.dir}/storage.conf", "w") as f:
            f.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{node.dir}/storage"\nrunroot = "{node.dir}/run"\n')

    def call(self, *words):
        command = [self.program, "--runtime", CRISP_OCI, "--cgroup-manager", "cgroupfs", "--root", f"{self.node.dir}/storage",
                   "--runroot", f"{self.node.dir}/run", "--tmpdir", f"{self.node.dir}/podman-tmp", "--storage-driver", "vfs"]
        environment = {"CONTAINERS_CONF": f"{self.node.dir}/containers.conf",
                       "CONTAINERS_STORAGE_CONF": f"{self.node.dir}/storage.conf"}
        out, err = f"{self.node.dir}/podman-out", f"{self.node.dir}/podman-err"
        with open(out, "w") as o, open(err, "w") as e:
            child = self.node.start(*command, *words, env=environment, stdout=o, stderr=e)
        # podman waits until its conmon is gone, and the orphans here are ours to reap.
        eventually(lambda: (harness.reap(), child.poll() is not None)[1], f"podman {' '.join(words)}", seconds=120)
        with open(out) as o, open(err) as e:
            return subprocess.CompletedProcess(words, child.returncode, o.read(), e.read())

    def run(self, *words):
        done = self.call(*words)
        check_equal(done.returncode, 0, f"podman {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()


def test_podman(node):
    podman = Podman(node)
    bundle = Bundle(node)
    # Limits that this test's own process may have: podman asks for the highest ones that the kernel knows.
    common = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none", "--cgroup-parent", f"/crisp-test-{node.id}", "--rootfs", bundle.rootfs)
    check_equal(podman.run("run", "--rm", *common, "sh", "-c", "echo hello; id -u"), "hello\n0", "run")
    done = podman.call("run", "--rm", *common, "sh", "-c", "exit 5")
    check_equal(done.returncode, 5, f"exit code {done.stderr}")
    podman.run("run", "-d", "--name", "web", "--memory", "64m", "--pids-limit", "40", *common, "sh", "-c",
               "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    check_equal(podman.run("exec", "web", "sh", "-c", "echo inside"), "inside", "exec")
    check_equal(podman.call("exec", "web", "sh", "-c", "exit 8").returncode, 8, "exec's exit code")
    check_equal(podman.run("inspect", "-f", "{{.State.Status}} {{.OCIRuntime}}", "web"), f"running {CRISP_OCI}", "inspect")
    podman.run("pause", "web")
    check_equal(podman.run("inspect", "-f", "{{.State.Status}}", "web"), "paused", "inspect")
    podman.run("unpause", "web")
    check("web" in podman.run("ps"), "ps")
    podman.run("stop", "web")
    check_equal(podman.run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"), "exited 0", "stop")
    podman.run("start", "web")
    podman.run("rm", "-f", "-t", "0", "web")
    check_equal(podman.run("ps", "-aq"), "", "nothing is left")
    check_equal([p for p in glob.glob(f"/sys/fs/cgroup/*/crisp-test-{node.id}/libpod-*") if "conmon" not in p], [], "cgroups left")


if __name__ == "__main__":
    harness.main()
