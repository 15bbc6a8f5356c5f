#!/usr/bin/python3
"""crispctl against a real crispd: what its users type and see."""
import harness
import json
import os
import subprocess
import tarfile

from harness import check, check_equal, eventually


class Ctl:
    def __init__(self, daemon):
        self.daemon = daemon

    def __call__(self, *arguments, code=0, text=None):
        done = subprocess.run([f"{harness.BUILD}/bin/crispctl", "-r", self.daemon.endpoint, *arguments], input=text,
                              capture_output=True, text=True, timeout=120)
        check(done.returncode == code, f"crispctl {' '.join(arguments)}: exit code {done.returncode}, wanted {code}\n"
                                       f"{done.stdout}{done.stderr}")
        self.errors = done.stderr
        return done.stdout

    def json(self, *arguments):
        return json.loads(self(*arguments, "-o", "json"))


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def pod_file(daemon, name="web"):
    os.makedirs(f"{daemon.dir}/logs/{name}", exist_ok=True)
    return write(f"{daemon.dir}/{name}.yaml", f"""
metadata: {{name: {name}, namespace: default, uid: uid-{name}}}
log_directory: {daemon.dir}/logs/{name}
linux: {{cgroup_parent: {daemon.cgroup_parent}}}
""")


def container_file(daemon, name, image, script):
    return write(f"{daemon.dir}/{name}-container.json", json.dumps({
        "metadata": {"name": name}, "image": {"image": image}, "command": ["/bin/sh", "-c", script],
        "log_path": f"{name}.log"}))


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
    check(done.returncode == 1 and "is crispd running" in done.stderr, f"no daemon: {done.stderr}")
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
