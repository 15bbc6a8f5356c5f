#!/usr/bin/python3
"""What crispctl shows beyond crictl: top, df, history, logs of pods, progress of pulls; on crispd and on Debian's containerd."""
import harness
import http.server
import json
import os
import re
import select
import signal
import subprocess
import threading
import time

import peer

from ctl import Ctl, Terminal, container_file, pod_file, write
from harness import check, check_equal, eventually

HISTORY = [{"created": "2020-01-02T03:04:05Z", "created_by": "/bin/sh -c #(nop) ADD file:abc in / ", "comment": "the base"},
           {"created": "2021-01-02T03:04:05Z", "created_by": "/bin/sh -c #(nop)  CMD [\"sh\"]", "empty_layer": True}]


def history_image():
    return harness.Image([harness.layer_tar(harness.busybox_files())], history=HISTORY, Cmd=["/bin/sh"], Env=["PATH=/bin"])


def history(node, runtime):
    ctl = Ctl(runtime)
    image = node.registry.push(history_image(), "built")
    ctl("pull", image)
    lines = ctl("history", image).splitlines()
    check_equal(lines[0].split(), ["LAYER", "CREATED", "CREATED", "BY", "COMMENT"], "header")
    check(lines[1].startswith("<none>") and 'CMD ["sh"]' in lines[1], f"the newest step comes first: {lines[1]}")
    layer = json.loads(history_image().config)["rootfs"]["diff_ids"][0]
    check(lines[2].startswith(layer[7:20]) and "years ago" in lines[2] and "ADD file:abc in /" in lines[2] and "the base" in lines[2],
          f"the oldest step with its layer: {lines[2]}")
    check_equal(ctl("image", "history", "-q", image), layer + "\n", "image history -q")
    check_equal([step["created"][:4] for step in json.loads(ctl("history", "-o", "json", image))], ["2021", "2020"], "history -o json")
    bare = node.registry.push(harness.busybox_image(), "bare")
    ctl("pull", bare)
    ctl("history", bare, code=1)
    check("has no history" in ctl.errors, f"an image without history: {ctl.errors}")
    for name in (image, bare):
        ctl("rmi", name)


def test_history_on_crisp(node):
    runtime = peer.Crisp(node)
    history(node, runtime)
    runtime.stop()


def test_history_on_containerd(node):
    runtime = peer.Containerd(node)
    history(node, runtime)
    runtime.stop()


def usage(node, runtime):
    """top once and live; df in sum, by object and as a document."""
    ctl = Ctl(runtime)
    image = node.registry.push(harness.busybox_image(), "busybox")
    unused = node.registry.push(harness.busybox_image(Labels={"n": "unused"}), "unused")
    pod = pod_file(runtime)
    busy = ctl("run", container_file(runtime, "busy", image, "head -c 3000000 /dev/urandom > /file; echo hello; while :; do :; done"), pod).strip()
    pod_id = ctl("pods", "-q").strip()
    idle = ctl("create", pod_id, container_file(runtime, "idle", image, "exec sleep 1000"), pod).strip()
    ctl("start", idle)
    done = ctl("create", pod_id, container_file(runtime, "done", image, "head -c 500000 /dev/urandom > /file"), pod).strip()
    ctl("start", done)
    ctl("pull", unused)
    eventually(lambda: json.loads(ctl("inspect", done))["status"]["state"] == "CONTAINER_EXITED", "the third ends")

    def rows(*arguments):
        lines = ctl("top", "--once", "-s", "0.5", *arguments).splitlines()
        return lines[0], [line.split() for line in lines[2:]]
    eventually(lambda: float(rows()[1][0][0]) > 20, "the busy container is the first")
    summary, table = rows()
    check("1 pods, 2 running containers" in summary, f"summary: {summary}")
    check_equal([row[-1] for row in table], ["busy", "idle"], "by processor time")
    check_equal([row[-4:] for row in table], [["default", "web", busy[:13], "busy"], ["default", "web", idle[:13], "idle"]], "columns")
    check_equal([row[-1] for row in rows("--sort", "name")[1]], ["busy", "idle"], "by name")
    check_equal(len(rows("-n", "1")[1]), 1, "top -n")
    check_equal([row[-1] for row in rows("--pods")[1]], ["web"], "top --pods")
    check_equal(rows("--namespace", "nowhere")[1], [], "top --namespace")
    ctl("top", "--once", "--sort", "colour", code=1)
    terminal = Terminal(*ctl.program, "top", "-s", "0.3", size=(10, 100))
    terminal.until(b"busy")
    terminal.until(b"q ends")
    terminal.type(b"p")  # pods: no names of containers any more
    terminal.until(b"POD\r\n")
    terminal.type(b"q")
    check_equal(terminal.end(), (0, True), "exit code of top; the terminal afterwards")

    def df():
        return json.loads(ctl("df", "-o", "json"))
    eventually(lambda: df()["containers"]["bytes"] >= 3000000, "df sees what a container wrote")
    use = df()
    check(use["images"]["total"] >= 2, f"images of df: {use['images']}")  # containerd has one of its own for pods
    check_equal(use["images"]["active"], 1, "images of df that are used")
    check(use["images"]["reclaimableBytes"] > 0 and use["images"]["reclaimableBytes"] < use["images"]["bytes"], f"df: {use['images']}")
    check_equal((use["containers"]["total"], use["containers"]["active"]), (3, 2), "containers of df")
    check(use["logs"]["bytes"] >= 4096, f"logs of df: {use['logs']}")
    table = ctl("du").splitlines()
    check_equal([line.split()[0] for line in table], ["TYPE", "Images", "Containers", "Logs"], "du is df")
    details = ctl("df", "-v")
    check("unused" in details and busy[:13] in details and "OWN FILES" in details, f"df -v: {details}")
    ctl("rmp", "-a", "-f")
    ctl("rmi", "-a")
    return use


def test_usage_on_crisp(node):
    runtime = peer.Crisp(node)
    usage(node, runtime)
    runtime.stop()


def test_usage_on_containerd(node):
    runtime = peer.Containerd(node)
    usage(node, runtime)
    runtime.stop()


def pod_logs(node, runtime):
    ctl = Ctl(runtime)
    image = node.registry.push(harness.busybox_image(), "busybox")
    ctl("pull", image)
    pod = pod_file(runtime)
    pod_id = ctl("runp", pod).strip()

    def start(name, script):
        container = ctl("create", pod_id, container_file(runtime, name, image, script), pod).strip()
        ctl("start", container)
        return container

    def ended(container):
        eventually(lambda: json.loads(ctl("inspect", container))["status"]["state"] == "CONTAINER_EXITED", "the container ends")
    for name, script in (("one", "echo first"), ("second", "echo next >&2"), ("third", "echo last; exit 1")):
        ended(start(name, script))
    check_equal(ctl("logs", "web"), "one    | first\nsecond | next\nthird  | last\n", "logs of a pod by its name")
    check_equal(ctl("logs", "--pod", pod_id[:10], "--tail", "1").count("\n"), 3, "logs --pod --tail")
    check_equal(ctl("logs", pod_id).splitlines()[0], "one    | first", "by the whole id")
    check(re.match(r"one    \| 20\S+Z first", ctl("logs", "-t", "web")), "logs -t of a pod")
    ctl("logs", "--previous", "--pod", "web", code=1)

    terminal = Terminal("env", "TERM=xterm", *ctl.program, "logs", "web")
    terminal.until(b"\x1b[36mone   \x1b[0m | first")
    terminal.until(b"last")
    check_equal(terminal.process.wait(60), 0, "exit code in a terminal")

    follow = subprocess.Popen([*ctl.program, "logs", "-f", "--tail", "0", "web"], stdout=subprocess.PIPE)
    tick = start("tick", "while [ ! -e /stop ]; do echo tick; sleep 0.05; done; echo over")

    came = [b""]

    def line():
        while b"\n" not in came[0]:
            check(select.select([follow.stdout], [], [], 60)[0], "logs -f of a pod says nothing")
            came[0] += os.read(follow.stdout.fileno(), 65536)
        first, came[0] = came[0].split(b"\n", 1)
        return first.decode().split()
    check_equal(line(), ["tick", "|", "tick"], "a container that came")
    ended(start("late", "echo here"))
    seen = []
    while ["late", "|", "here"] not in seen:
        seen.append(line())
    ctl("exec", "-s", tick, "touch", "/stop")
    while ["tick", "|", "over"] not in seen:
        seen.append(line())
    ended(tick)  # containerd 1.6 fails to stop what is ending
    check(follow.poll() is None, "logs -f waits for more while the pod is ready")
    ctl("rmp", "-f", pod_id)
    check_equal(follow.wait(60), 0, "logs -f ends with the pod")
    ctl("rmi", "-a")


def test_pod_logs_on_crisp(node):
    runtime = peer.Crisp(node)
    pod_logs(node, runtime)
    runtime.stop()


def test_pod_logs_on_containerd(node):
    runtime = peer.Containerd(node)
    pod_logs(node, runtime)
    runtime.stop()


class SlowRegistry:
    """Hands out one image, its layer a piece at a time."""

    def __init__(self, image, piece=65536, pause=0.1):
        paths = {f"/v2/slow/blobs/{harness.sha256(b)}": b for b in (image.config, *image.layers)}
        manifests = {f"/v2/slow/manifests/{t}": image.manifest for t in ("latest", image.digest)}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = (paths | manifests).get(self.path, b"")
                self.send_response(200 if body or self.path == "/v2/" else 404)
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json" if self.path in manifests else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for at in range(0, len(body), piece) if self.command == "GET" else []:
                    self.wfile.write(body[at:at + piece])
                    if len(body) > piece:
                        time.sleep(pause)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.reference = f"127.0.0.1:{self.server.server_address[1]}/slow:latest"


def test_progress_of_a_pull(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    registry = SlowRegistry(harness.Image([harness.layer_tar({"random": os.urandom(1 << 20)})]))
    terminal = Terminal(*ctl.program, "pull", registry.reference, size=(24, 100))
    terminal.until(b"[=")
    terminal.until(b"/ 1.0")
    terminal.until(b"0 of 1 layers")
    terminal.until(b"/s   ETA ")
    terminal.until(b"Image is up to date for ")
    check_equal(terminal.end(), (0, True), "exit code of pull; the terminal afterwards")
    ctl("rmi", "-a")
    daemon.check_clean()


def test_updates_and_checkpoints_of_pods(node):
    daemon = node.crispd()
    ctl = Ctl(daemon)
    image = node.registry.push(harness.busybox_image(), "busybox")
    pod_path = pod_file(daemon)
    main = ctl("run", container_file(daemon, "main", image, "exec sleep 1000"), pod_path).strip()
    pod = ctl("pods", "-q").strip()
    check_equal(ctl("updatep", "--memory", "256Mi", "--cpu-quota", "50000", "--cpu-period", "100000", "web"), pod + "\n", "updatep")
    resources = ctl.json("inspectp", "web")["info"]["config"]["linux"]["resources"]
    check_equal((resources["memory_limit_in_bytes"], resources["cpu_quota"]), (256 << 20, 50000), "the pod's limits")
    ctl("update", "--memory", "64Mi", "--memory-swap", "64Mi", "main")
    linux = ctl.json("inspect", "main")["status"]["resources"]["linux"]
    check_equal((linux["memoryLimitInBytes"], linux["memorySwapLimitInBytes"]), (str(64 << 20),) * 2, "update --memory-swap")
    ctl("update", "--unified", "memory.high", main, code=1)
    check("key=value" in ctl.errors and "crispctl help update" in ctl.errors, f"a bad --unified: {ctl.errors}")
    ctl("update", "--unified", "memory.high=50000000", main, code=0 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1)
    for arguments in (("checkpointp", "-e", f"{daemon.dir}/saved", "web"), ("checkpoint", "-e", f"{daemon.dir}/saved.tar", "main"),
                      ("restorep", f"{daemon.dir}/saved", "--pod-config", pod_path)):
        ctl(*arguments, code=1)  # off by default; tests/checkpoint_test.py has them where there is CRIU
        check("checkpoint" in ctl.errors and "→" in ctl.errors, f"{arguments[0]} without checkpoints: {ctl.errors}")
    ctl("rmp", "-a", "-f")
    daemon.check_clean()


harness.main()
