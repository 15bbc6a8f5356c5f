#!/usr/bin/python3
"""crispctl against a real crispd: what its users type and see."""
import harness
import concurrent.futures
import json
import os
import re
import select
import signal
import socket
import subprocess
import tarfile
import xml.etree.ElementTree

from ctl import Ctl, Terminal, container_file, pod_file, write
from harness import check, check_equal, eventually


def test_pods_from_files(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    check("Image is up to date for " in ctl("pull", image), "what pull says")
    check_equal(ctl.json("images")["images"][0]["repoTags"], [image], "images")
    host, tag = image.rsplit(":", 1)
    line = ctl("images").splitlines()[1].split()
    check_equal(line[:2], [host, tag], "table of images")

    pods, containers = pod_file(daemon), container_file(daemon, "loop", image, "n=0; while :; do echo line $n; echo error $n >&2; n=$((n+1)); sleep 0.05; done")
    pod = ctl("runp", pods).strip()
    check_equal(ctl("pods", "-q").split(), [pod], "pods -q")
    check_equal(ctl.json("pods", "--name", "^web$", "--state", "ready")["items"][0]["id"], pod, "filters")
    check_equal(ctl("pods", "-q", "--name", "other").split(), [], "filters")
    container = ctl("create", pod[:10], containers, pods).strip()
    check_equal(ctl("ps", "-q").split(), [], "a created container does not run")
    check_equal(ctl("ps", "-q", "-a").split(), [container], "ps -a")
    ctl("start", container[:8])
    check_equal(ctl("ps", "-q").split(), [container], "ps")
    check_equal(ctl.json("inspect", "loop")["status"]["state"], "CONTAINER_RUNNING", "inspect by name")
    check(ctl.json("inspectp", "web")["status"]["network"]["ip"].startswith("10.88."), "address of the pod")

    check_equal(ctl("exec", "-s", "loop", "sh", "-c", "echo out; echo err >&2; exit 7", code=7), "out\n", "stdout of exec")
    check_equal(ctl.errors, "err\n", "stderr of exec")
    eventually(lambda: "line 3" in ctl("logs", "loop"), "the log grows")
    check_equal(ctl("logs", "loop").splitlines()[0], "line 0", "first line of the log")
    check("error 0" in ctl.errors, "stderr of the log")
    check_equal(len(ctl("logs", "--tail", "1", "-s", "stdout", "loop").splitlines()) <= 1, True, "logs --tail")
    check(ctl("logs", "-t", "loop")[:2] == "20", "logs -t begins with a time")
    check_equal(ctl("logs", "--since", "1h", "--limit-bytes", "6", "-s", "stdout", "loop"), "line 0", "logs --limit-bytes")

    ctl("update", "--memory", "64Mi", "loop")
    resources = ctl.json("inspect", "loop")["status"]["resources"]["linux"]
    check_equal(resources["memoryLimitInBytes"], str(64 << 20), "memory limit after update")
    follow = subprocess.Popen([f"{harness.BUILD}/bin/crispctl", "-r", daemon.endpoint, "logs", "-f", "--tail", "1", "loop"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    check(follow.stdout.readline() != "", "logs -f shows something")
    ctl("stop", "loop")
    follow.stdout.read()  # ends with the container
    check_equal(follow.wait(30), 0, "exit code of logs -f")
    ctl("rmp", pod, code=1)
    check("is running" in ctl.errors, "rmp without -f")
    ctl("rm", "loop")
    check(not os.path.exists(f"{daemon.dir}/logs/web/loop.log"), "rm takes the log with it")
    ctl("rmp", "-f", pod)
    check("Deleted: " + image in ctl("rmi", image), "what rmi says")
    check_equal(ctl("images", "-q"), "", "images after rmi")
    daemon.check_clean()


def test_run_and_its_failures(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    pods = pod_file(daemon)
    container = ctl("run", container_file(daemon, "main", image, "sleep 1000"), pods).strip()
    check_equal(ctl("ps", "-q").split(), [container], "run pulls, makes and starts")
    check_equal(ctl("stats").splitlines()[1].split()[:2], [container[:13], "main"], "stats")
    check_equal(ctl("statsp").splitlines()[1].split()[0], "web", "statsp")
    check_equal(len(ctl.json("metricdescs")["descriptors"]), 56, "metricdescs")
    check_equal(ctl.json("metricsp")["podMetrics"][0]["containerMetrics"][0]["containerId"], container, "metricsp")
    ctl("metricsp", "-o", "table", code=1)
    ctl("rmp", "-a", "-f")
    bad = write(f"{daemon.dir}/bad.json", json.dumps({"metadata": {"name": "bad"}, "image": {"image": image},
                                                      "command": ["/no/such/program"], "log_path": "bad.log"}))
    ctl("run", bad, pods, code=1)
    check("/no/such/program" in ctl.errors, f"the error names the program: {ctl.errors}")
    check_equal(ctl("pods", "-q"), "", "nothing stays of a failed run")
    ctl("runp", write(f"{daemon.dir}/typo.yaml", "metadata: {nam: x}\n"), code=1)
    check("nam" in ctl.errors, "an unknown field is named")
    ctl("inspect", "nothing", code=1)
    ctl("frobnicate", code=2)
    ctl("exec", "-s", "nothing", "true", code=1)
    done = subprocess.run([f"{harness.BUILD}/bin/crispctl", "-r", f"{daemon.dir}/none.sock", "ps"], capture_output=True, text=True)
    check(done.returncode == 1 and "start the runtime" in done.stderr, f"no daemon: {done.stderr}")
    daemon.check_clean()


def streams(node, transport):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    container = ctl("run", container_file(daemon, "main", image, "nc -ll -p 7070 -e /bin/cat & exec sleep 1000"),
                    pod_file(daemon)).strip()
    exec_ = ("exec", "-r", transport)
    check_equal(ctl(*exec_, "main", "sh", "-c", "echo out; echo err >&2; exit 9", code=9), "out\n", "stdout of exec")
    check_equal(ctl.errors, "err\n", "stderr of exec, and no words about the code")
    check_equal(ctl(*exec_, "-i", "main", "cat", text="x" * 1000000 + "\n"), "x" * 1000000 + "\n", "exec -i ends with its stdin")
    check_equal(ctl(*exec_, "main", "echo", "--help", "-x"), "--help -x\n", "the command's own flags")
    ctl(*exec_, "main", "/no/such/program", code=1)
    check("/no/such/program" in ctl.errors, f"the error names the program: {ctl.errors}")
    with open("/dev/full", "w") as full:  # who does not take the output does not hang us
        done = subprocess.run([*ctl.program, *exec_, "main", "cat", "/bin/busybox"], stdout=full, stderr=subprocess.DEVNULL, timeout=60)
    check_equal(done.returncode, 0, "output that nobody takes")

    script = """tty; until stty size | grep 101; do sleep 0.1; done; until stty size | grep 55; do sleep 0.1; done
                trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"""
    terminal = Terminal(*ctl.program, *exec_, "-it", container, "/bin/sh", "-c", script, size=(33, 101))
    terminal.until(b"/dev/pts/")
    terminal.until(b"33 101")
    terminal.resize(44, 55)
    terminal.until(b"44 55")
    terminal.until(b"ready")
    terminal.type(b"\x03")  # is the container's, not ours
    terminal.until(b"caught")
    check_equal(terminal.end(), (5, True), "exit code of exec -it; the terminal afterwards")
    terminal = Terminal(*ctl.program, *exec_, "-it", container, "/bin/sh", "-c", "echo go; cat")
    terminal.until(b"go")  # from here on the terminal is raw
    terminal.type(b"a\x10b\n")
    terminal.until(b"a^Pb")
    terminal.type(b"\x10\x11")
    terminal.until(b"detached")
    check_equal(terminal.end(), (0, True), "detach keys")
    ctl(*exec_, "-it", container, "sh", code=1)
    check("not a terminal" in ctl.errors, "-t without a terminal")

    reader = write(f"{daemon.dir}/reader.json", json.dumps({
        "metadata": {"name": "reader"}, "image": {"image": image}, "command": ["/bin/sh", "-c", "read a; echo got $a; exit 3"],
        "stdin": True, "stdin_once": True, "log_path": "reader.log"}))
    pod = ctl("pods", "-q").strip()
    second = ctl("create", pod, reader, pod_file(daemon)).strip()
    ctl("start", second)
    check_equal(ctl("attach", "-r", transport, "-i", "reader", text="words\n"), "got words\n", "attach")
    eventually(lambda: ctl.json("inspect", second)["status"]["exitCode"] == 3, "the reader exits")

    forward = subprocess.Popen([*ctl.program, "port-forward", "-r", transport, "web", ":7070", ":7071"], stdout=subprocess.PIPE, text=True)
    ports = {}
    while len(ports) < 2:
        line = forward.stdout.readline()
        check(line.startswith("Forwarding from "), f"what port-forward says: {line!r}")
        if "127.0.0.1" in line:
            ports[int(line.split()[-1])] = int(line.split()[2].rsplit(":")[-1])
    for round in range(3):
        with socket.create_connection(("127.0.0.1", ports[7070]), timeout=60) as s:
            s.sendall(b"through " * 10000)
            s.shutdown(socket.SHUT_WR)
            check_equal(s.makefile("rb").read(), b"through " * 10000, "bytes through the forwarded port")
    with socket.create_connection(("127.0.0.1", ports[7071]), timeout=60) as s:
        check_equal(s.recv(10), b"", "nobody listens there")
    while "an error occurred forwarding" not in (line := forward.stdout.readline()):
        check(line, "port-forward tells of the refused connection")
    forward.send_signal(signal.SIGINT)
    check_equal(forward.wait(60), 0, "exit code of port-forward")
    ctl("port-forward", "web", "x:1", code=1)
    ctl("rmp", "-a", "-f")
    daemon.check_clean()


def test_much_in_and_out_over_spdy(node):
    """What a command writes is read while it has not yet taken all of its stdin, whoever learns of windows first."""
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    ctl("run", container_file(daemon, "main", image, "exec sleep 1000"), pod_file(daemon))
    text = b"x" * 1000000

    def through_cat(_):
        return subprocess.run([*ctl.program, "exec", "-r", "spdy", "-i", "main", "cat"], input=text, stdout=subprocess.PIPE,
                              timeout=60).stdout == text
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        check(all(pool.map(through_cat, range(60))), "what came back is not what went in")


def test_streams_over_spdy(node):
    streams(node, "spdy")


def test_streams_over_websocket(node):
    streams(node, "websocket")


def test_crictl_by_name(node):
    daemon = node.crispd()
    os.symlink(f"{harness.BUILD}/bin/crispctl", f"{daemon.dir}/crictl")
    write(f"{daemon.dir}/crictl.yaml", f"runtime-endpoint: {daemon.endpoint}\ntimeout: 20\ndebug: false\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("CRI_CONFIG_FILE", "CONTAINER_RUNTIME_ENDPOINT")}

    def crictl(*arguments):
        return subprocess.run([f"{daemon.dir}/crictl", *arguments], capture_output=True, text=True, env=environment)

    if os.path.exists("/etc/crictl.yaml"):
        raise harness.Skip("this machine has an /etc/crictl.yaml, which comes first")
    check("RuntimeName:  crisp" in crictl("version").stdout, "crictl.yaml beside the program")
    check_equal(crictl("config", "--get", "timeout").stdout, "20\n", "config shows crictl's file")
    environment["CRI_CONFIG_FILE"] = write(f"{daemon.dir}/other.yaml", "runtime-endpoint: unix:///no/such.sock\n")
    check("/no/such.sock" in crictl("version").stderr, "CRI_CONFIG_FILE")
    environment["CONTAINER_RUNTIME_ENDPOINT"] = daemon.endpoint
    check("RuntimeName:  crisp" in crictl("version").stdout, "the environment comes before the file")
    check_equal(crictl("-r", "unix:///no/such2.sock", "version").returncode, 1, "flags come before the environment")
    daemon.check_clean()


def see_events(daemon, ctl, image, pod):
    """`events` with filters and `ps --watch`, while containers come and go."""
    def show(*arguments):
        return subprocess.Popen([*ctl.program, *arguments], stdout=subprocess.PIPE, text=True, bufsize=1)

    started = show("events", "--type", "started", "--pod", "web", "-o", "go-template",
                   "--template", "{{.containerEventType}} {{.containerId}}")
    other = show("events", "--pod", "other", "-o", "table")
    table = show("events", "--container", "guest", "-o", "table")
    watch = show("ps", "-a", "-q", "--watch", "--name", "guest")
    made = []
    guest = container_file(daemon, "guest", image, "sleep 1000")

    def all_saw_one():  # nothing tells when they listen, so containers are made until they have seen one
        made.append(ctl("create", pod, guest, pod_file(daemon)).strip())
        ctl("start", made[-1])
        seen = select.select([started.stdout, table.stdout, watch.stdout], [], [], 0.2)[0]
        if len(seen) < 3:
            ctl("rm", "-f", made[-1])
        return len(seen) == 3

    eventually(all_saw_one, "events are seen")
    line = started.stdout.readline().split()
    check(line[0] == "CONTAINER_STARTED_EVENT" and line[1] in made, f"events with a template: {line}")
    line = table.stdout.readline().split()
    check(line[3:] == ["guest", "default/web"] and line[1] in ("created", "started", "stopped", "deleted"),
          f"events as lines: {line}")
    check(watch.stdout.readline().strip() in made, "ps --watch")
    check_equal(select.select([other.stdout], [], [], 0)[0], [], "events of another pod")
    for process in (started, other, table, watch):
        process.kill()
        process.wait(60)
    ctl("events", "--type", "exploded", code=1)
    ctl("rm", "-f", made[-1])


def test_templates_and_views(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    container = ctl("run", container_file(daemon, "main", image, "sleep 1000"), pod_file(daemon)).strip()
    pod = ctl("pods", "-q").strip()
    see_events(daemon, ctl, image, pod)

    template = ("-o", "go-template", "--template")
    check_equal(ctl("inspect", *template, "{{.status.metadata.name}} {{.info.pid | printf \"%d\"}}", "main"),
                f"main {ctl.json('inspect', 'main')['info']['pid']}\n", "inspect")
    check_equal(ctl("inspectp", *template, "{{.status.id}}", "web"), pod + "\n", "inspectp")
    check_equal(ctl("inspecti", *template, "{{index .status.repoTags 0}}", image), image + "\n", "inspecti")
    check_equal(ctl("inspecti", "--filter", "reference=busybox", *template, "{{.status.pinned}}"), "false\n", "inspecti -f")
    check_equal(ctl("info", *template, "{{range .status.conditions}}{{.type}} {{end}}").split()[:2],
                ["RuntimeReady", "NetworkReady"], "info")
    check_equal(ctl("ps", *template, "{{range .containers}}{{.id}}{{end}}"), container + "\n", "ps")
    check("/" in ctl("imagefsinfo", *template, "{{(index .status.imageFilesystems 0).fsId.mountpoint}}"), "imagefsinfo")
    ctl("inspect", *template, "{{.status.nothing}}", "main", code=1)
    check("nothing" in ctl.errors, "a key that is not there")
    ctl("inspect", *template, "{{.status", "main", code=1)
    ctl("inspect", "-o", "go-template", "main", code=1)
    check("--template" in ctl.errors, "what to do without a template")

    timing = ctl("inspectp", "--timing", "web").splitlines()
    check_equal(timing[0].split(), ["CALL", "CONTAINER", "STAGE", "µs"], "inspectp --timing")
    calls = {line.split()[0] for line in timing[1:]}
    check({"RunPodSandbox", "StartContainer"} <= calls, f"calls with timings: {calls}")
    check("RunPodSandbox" in ctl("trace", "web") and "█" in ctl("trace", pod), "trace")
    svg = xml.etree.ElementTree.fromstring(ctl("trace", "web", "-o", "svg"))
    check(len(svg.findall("{*}rect")) > 5, "bars of trace -o svg")
    ctl("trace", "web", "-o", "png", code=1)
    tree = ctl("tree").splitlines()
    check("default/web" in tree[0] and "main" in tree[1] and "running" in tree[1], f"tree: {tree}")
    tree = ctl("tree", "--processes").splitlines()
    check("cgroup /" in tree[2] and re.search(r"\d+  \S", tree[3]), f"tree of processes: {tree}")
    check("RuntimeReady: true" in ctl("doctor"), "doctor")
    ctl("rmp", "-a", "-f")
    check("tree" in ctl("help") and "--follow" in ctl("help", "logs"), "help")
    done = subprocess.run([*ctl.program[:2], f"{daemon.dir}/none.sock", "doctor"], capture_output=True, text=True)
    check(done.returncode == 1 and "start crispd" in done.stdout, f"doctor without a daemon: {done.stdout}")
    daemon.check_clean()


def test_archives(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = harness.busybox_image()
    image.layout_tar(f"{daemon.dir}/in.tar", name="localhost/a:1")
    check("localhost/a:1" in ctl("images", "import", f"{daemon.dir}/in.tar"), "import by the archive's name")
    check_equal(ctl.json("images")["images"][0]["id"], image.id, "id of the imported image")
    ctl("images", "import", "-t", "localhost/b:2", f"{daemon.dir}/in.tar")
    check_equal(sorted(ctl.json("images")["images"][0]["repoTags"]), ["localhost/a:1", "localhost/b:2"], "names")
    ctl("image", "untag", "localhost/a:1")
    check_equal(ctl.json("images")["images"][0]["repoTags"], ["localhost/b:2"], "names after untag")
    ctl("image", "export", "localhost/b:2", f"{daemon.dir}/out.tar")
    with tarfile.open(f"{daemon.dir}/out.tar") as tar:
        names = tar.getnames()
    check("oci-layout" in names and "manifest.json" in names, f"a layout that docker reads too: {names}")
    ctl("rmi", "localhost/b:2")
    ctl("images", "import", "-t", "localhost/c:3", f"{daemon.dir}/out.tar")
    check_equal(ctl.json("images")["images"][0]["id"], image.id, "the same image through export and import")
    container = ctl("run", container_file(daemon, "main", "localhost/c:3", "sleep 1000"), pod_file(daemon)).strip()
    check("busybox" in ctl("exec", "-s", container, "/bin/busybox").lower(), "the imported image runs")
    ctl("images", "import", f"{daemon.dir}/missing.tar", code=1)
    write(f"{daemon.dir}/garbage.tar", "no tar at all")
    ctl("images", "import", f"{daemon.dir}/garbage.tar", code=1)
    ctl("rmp", "-a", "-f")
    ctl("rmi", "-a")
    check_equal(ctl("images", "-q"), "", "images at the end")
    daemon.check_clean()


harness.main()
