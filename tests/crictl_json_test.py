#!/usr/bin/python3
"""crispctl beside upstream's crictl on the same runtime: the same documents, templates and tables for the same objects.

CRISP_CRICTL names the crictl to compare with (built from sigs.k8s.io/cri-tools); without it these tests skip. Runtimes are
crispd and Debian's containerd.
"""
import harness
import json
import os
import subprocess

import peer
import upstream

from harness import Skip, check, check_equal, eventually

# What a kubelet writes on containers, too: crictl knows a container's pod only by these.
KUBELET = {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "uid-web"}
POD = {"metadata": {"name": "web", "namespace": "shop", "uid": "uid-web", "attempt": 2}, "hostname": "web",
       "labels": {"app": "web", "tier": "front"} | KUBELET,
       "annotations": {"note": "say \"hi\" <&>"}}
CONTAINER = {"metadata": {"name": "main", "attempt": 1}, "command": ["/bin/sh", "-c", "echo out; echo err >&2; exec sleep 1000"],
             "labels": {"app": "web", "io.kubernetes.container.name": "main"} | KUBELET, "annotations": {"a": "b"},
             "envs": [{"key": "A", "value": "B=C"}], "mounts": [{"host_path": "/usr/share", "container_path": "/data", "readonly": True}],
             "linux": {"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000,
                                     "cpu_shares": 512, "oom_score_adj": 100}}}
class Pair:
    """crictl and crispctl called crictl, with the same arguments."""

    def __init__(self, node, runtime):
        if not upstream.program():
            raise Skip("CRISP_CRICTL does not name upstream's crictl")
        self.runtime = runtime
        ours = f"{runtime.dir}/crictl"
        os.symlink(f"{harness.BUILD}/bin/crispctl", ours)
        self.programs = [upstream.program(), ours]
        config = f"{runtime.dir}/crictl.yaml"
        with open(config, "w") as f:
            f.write(f"runtime-endpoint: {runtime.endpoint}\nimage-endpoint: {runtime.endpoint}\ntimeout: 60\n")
        self.environment = upstream.environment(config)
        self.different = []

    def _run(self, program, arguments):
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, env=self.environment)

    def both(self, *arguments):
        return [self._run(program, arguments) for program in self.programs]

    def one(self, *arguments):
        done = self._run(self.programs[1], arguments)
        check_equal(done.returncode, 0, f"crispctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def compare(self, *arguments, form=lambda text: text):
        theirs, ours = self.both(*arguments)
        what = "crictl " + " ".join(arguments)
        if theirs.returncode != ours.returncode:
            self.different.append(f"{what}: exit code {theirs.returncode} of upstream, {ours.returncode} of ours\n"
                                  f"upstream: {theirs.stdout[-300:]}{theirs.stderr[-300:]}\nours: {ours.stdout[-300:]}{ours.stderr[-300:]}")
            return
        if theirs.returncode != 0:
            return
        wanted = form(theirs.stdout)
        try:
            seen = form(ours.stdout)
        except ValueError:
            seen = ours.stdout
        found = list(upstream.differences(wanted, seen))
        if found:
            self.different.append(f"{what}:\n" + "\n".join(found))

    def json(self, *arguments):
        self.compare(*arguments, form=json.loads)

    def moving(self, *arguments):
        self.compare(*arguments, form=lambda text: upstream.still(json.loads(text)))

    def yaml(self, *arguments):
        import yaml
        self.compare(*arguments, form=yaml.safe_load)

    def table(self, *arguments):
        self.compare(*arguments, form=upstream.cells)

    def end(self):
        check(not self.different, f"{len(self.different)} differences on {self.runtime.name}:\n" + "\n".join(self.different))


def make_objects(node, runtime, pair):
    """Two pods, one stopped; three containers: running, created, exited; three images, one with two names."""
    image = node.registry.push(harness.busybox_image(), "busybox")
    again = node.registry.push(harness.busybox_image(), "again", "2.0")
    other = node.registry.push(harness.busybox_image(User="1000:1000"), "other")
    other = other.rsplit(":", 1)[0] + "@" + harness.busybox_image(User="1000:1000").digest
    for name in (image, again, other):
        pair.one("pull", name)

    def file(name, document):
        path = f"{runtime.dir}/{name}.json"
        with open(path, "w") as f:
            json.dump(document, f)
        return path

    logs = f"{runtime.dir}/pod-logs"
    os.makedirs(logs)
    pod_file = file("pod", POD | {"log_directory": logs, "linux": {"cgroup_parent": runtime.cgroup_parent}})
    stopped = {"metadata": {"name": "old", "namespace": "default", "uid": "uid-old"}, "linux": {"cgroup_parent": runtime.cgroup_parent}}
    pod = pair.one("runp", pod_file).strip()
    old = pair.one("runp", file("old", stopped)).strip()
    pair.one("stopp", old)
    main = pair.one("create", pod, file("main", CONTAINER | {"image": {"image": image}, "log_path": "main.log"}), pod_file).strip()
    pair.one("start", main)
    guest = pair.one("create", pod, file("guest", {"metadata": {"name": "guest"}, "labels": KUBELET, "image": {"image": image}, "log_path": "guest.log",
                                                    "command": ["/bin/sleep", "1000"]}), pod_file).strip()
    done = pair.one("create", pod, file("done", {"metadata": {"name": "done"}, "labels": KUBELET, "image": {"image": image}, "log_path": "done.log",
                                                  "command": ["/bin/sh", "-c", "exit 3"]}), pod_file).strip()
    pair.one("start", done)
    eventually(lambda: json.loads(pair.one("inspect", done))["status"]["state"] == "CONTAINER_EXITED", "the container ends")
    return {"pod": pod, "old": old, "main": main, "guest": guest, "done": done, "image": image, "again": again, "other": other,
            "files": runtime.dir}


def compare_documents(pair, o):
    pair.json("pods", "-o", "json")
    pair.yaml("pods", "-o", "yaml")
    for filter in (["--name", "^we"], ["--namespace", "shop"], ["--state", "ready"], ["--state", "NotReady"], ["--latest"], ["-n", "1"],
                   ["--label", "app=web"], ["--label", "app=web", "--label", "tier=back"], ["--id", o["pod"]], ["--id", o["pod"][:12]]):
        pair.json("pods", "-o", "json", *filter)
    pair.json("ps", "-o", "json")
    pair.yaml("ps", "-a", "-o", "yaml")
    for filter in (["-a"], ["--state", "exited"], ["--state", "Created"], ["--name", "main|done", "-a"], ["--image", o["image"]],
                   ["--image", o["other"], "-a"], ["--pod", o["pod"], "-a"], ["--latest"], ["-n", "2"], ["--label", "app=web"],
                   ["--namespace", "shop"], ["--namespace", "default"], ["--id", o["done"], "-a"], ["--id", o["main"][:10]]):
        pair.json("ps", "-o", "json", *filter)
    pair.json("images", "-o", "json")
    pair.yaml("images", "-o", "yaml")
    for filter in (["dangling=true"], ["dangling=false"], ["reference=other"], ["before=" + o["image"]], ["since=" + o["image"]],
                   ["reference=again", "dangling=false"], ["since=" + o["other"]], ["before=" + o["again"], "dangling=true"]):
        pair.json("images", "-o", "json", *[word for f in filter for word in ("-f", f)])
    pair.json("images", "-o", "json", o["image"])
    for object in ("main", "guest", "done"):
        pair.json("inspect", o[object])
    pair.json("inspect", "-o", "json", o["main"], o["done"])
    pair.json("inspect", "-q", o["main"])
    pair.yaml("inspect", "-o", "yaml", o["done"])
    pair.json("inspect", "--name", "guest", "-a")
    pair.json("inspectp", o["pod"])
    pair.json("inspectp", o["old"])
    pair.json("inspectp", "-q", o["pod"])
    pair.yaml("inspectp", "-o", "yaml", o["pod"])
    pair.json("inspectp", "--label", "app=web")
    pair.json("inspectp", "--state", "notready")
    for name in (o["image"], o["other"]):
        pair.json("inspecti", name)
    pair.json("inspecti", "-q", o["image"], o["other"])
    pair.json("inspecti", "--name", o["image"])
    pair.yaml("inspecti", "-o", "yaml", o["image"])
    pair.json("info")
    pair.json("info", "-q")
    pair.yaml("info", "-o", "yaml")
    pair.moving("imagefsinfo")
    pair.moving("imagefsinfo", "-o", "json")
    pair.moving("stats", "-o", "json")
    pair.moving("stats", "-o", "json", o["main"])
    pair.moving("stats", "-o", "json", "--pod", o["pod"])
    pair.moving("stats", "-o", "json", "--label", "app=web", "--id", o["main"])
    pair.moving("statsp", "-o", "json")
    pair.moving("statsp", "-o", "json", o["pod"])
    pair.json("metricdescs")
    pair.compare("metricsp", form=lambda text: still_metrics(json.loads(text)))
    pair.compare("version")
    pair.compare("runtime-config", form=str.split)


def still_metrics(document):
    return [(pod["podSandboxId"], [m["name"] for m in pod["metrics"]], [c["containerId"] for c in pod["containerMetrics"]])
            for pod in document["podMetrics"]]


def compare_templates(pair, o):
    template = ("-o", "go-template", "--template")
    pair.compare("inspect", *template, "{{.status.id}} {{.status.metadata.name}}{{range $k, $v := .status.labels}} {{$k}}={{$v}}{{end}}", o["main"])
    pair.compare("inspect", *template, "{{range .}}{{.status.state}} {{.status.exitCode}};{{end}}", o["main"], o["done"])
    pair.compare("inspect", *template, "{{json .status.resources}}", o["main"])
    pair.compare("inspectp", *template, "{{.status.network.ip}} {{len .status.labels}} {{.status.state | lower}}", o["pod"])
    pair.compare("inspecti", *template, "{{index .status.repoTags 0}} {{.status.size}}", o["image"])
    pair.compare("info", *template, "{{range .status.conditions}}{{.type}}={{.status}} {{end}}")
    pair.compare("imagefsinfo", *template, "{{range .status.imageFilesystems}}{{.fsId.mountpoint}}{{end}}")
    pair.compare("inspect", *template, "{{.status.nothing}}", o["main"])
    pair.compare("inspect", *template, "{{.status", o["main"])


def compare_tables(pair, o):
    for words in (["pods"], ["pods", "--no-trunc"], ["pods", "-q"], ["pods", "-v"], ["ps"], ["ps", "-a"], ["ps", "-a", "--no-trunc"],
                  ["ps", "-a", "-q"], ["ps", "-a", "-v"], ["ps", "-a", "-r"], ["images"], ["images", "--digests"],
                  ["images", "--no-trunc", "--digests"], ["images", "--pinned"], ["images", "-q"], ["images", "-v"],
                  ["inspect", "-o", "table", o["main"]], ["inspect", "-q", "-o", "table", o["done"]],
                  ["inspectp", "-q", "-o", "table", o["pod"]], ["inspecti", "-q", "-o", "table", o["image"]],
                  ["config", "--list"], ["config", "--get", "timeout"]):
        pair.table(*words)
    pair.compare("logs", o["main"])
    pair.compare("logs", "--tail", "1", o["main"])
    pair.compare("exec", "-s", o["main"], "echo", "hello", form=str.split)  # upstream adds empty lines
    pair.compare("exec", o["main"], "echo", "hello")


def compare_errors(pair, o):
    """The exit codes of what cannot be done."""
    for words in (["inspect", "nothing"], ["inspectp", "nothing"], ["inspecti", "nothing:1"], ["rm", "nothing"],
                  ["rmp", "nothing"], ["rmi", "nothing:1"], ["start", "nothing"], ["logs", "nothing"], ["exec", "-s", "nothing", "true"],
                  ["rm", o["main"]], ["rmp", o["pod"]], ["create", o["pod"], "/no/file", "/no/file"], ["runp", "/no/file"],
                  ["ps", "--name", "("], ["images", "-f", "colour=red"], ["ps", "-o", "xml"], ["pods", "--state", "sleepy"],
                  ["update", "--memory", "-5", "nothing"], ["config", "--get", "colour"], ["config", "--set", "colour=red"],
                  ["-r", "unix:///no/such.sock", "--max-retries", "0", "ps"], ["frobnicate"], ["ps", "--frobnicate"], ["ps", "--last", "x"],
                  ["create", "--with-pull", "--no-pull", o["pod"], f"{o['files']}/guest.json", f"{o['files']}/pod.json"]):
        pair.compare(*words, form=lambda text: "")


def compare_all(node, runtime):
    pair = Pair(node, runtime)
    objects = make_objects(node, runtime, pair)
    for part in (compare_documents, compare_templates, compare_tables, compare_errors):
        part(pair, objects)
    pair.one("rmp", "-a", "-f")
    pair.end()
    runtime.stop()


def test_on_crisp(node):
    compare_all(node, peer.Crisp(node))


def test_on_containerd(node):
    compare_all(node, peer.Containerd(node))


harness.main()
