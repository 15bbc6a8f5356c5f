#!/usr/bin/python3
"""Every command, alias, flag, variable and setting of crictl 1.36 (crictl_table.py) by crispctl under the name crictl, on
crispd and on Debian's containerd: exit code, output, effect. Where CRISP_CRICTL names upstream's crictl it runs the same
lines, and its output and exit codes are compared.
"""
import base64
import contextlib
import harness
import http.server
import itertools
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import threading
import time

import cri
import crictl_table
import grpc
import peer
import upstream

from harness import check, check_equal, eventually

LABELS = {"app": "web"} | {f"io.kubernetes.pod.{k}": v for k, v in {"name": "web", "namespace": "shop", "uid": "uid-web"}.items()}


def facts():
    """{command: (its names, {any name of a flag: all its names})}; the command "" has the global flags."""
    lines = [":" + crictl_table.GLOBAL.replace("\n", " ")] + crictl_table.COMMANDS.replace("\n  ", " ").strip().splitlines()
    table = {}
    for line in lines:
        names, flags = line.split(":", 1)
        words = names.split()
        sub = len(words) > 1 and words[1] == "jsonschema"
        command, names = (" ".join(words[:2]), words[1:]) if sub else (" ".join(words[:1]), words)
        table[command] = (names, {name: flag.rstrip("=").split("/") for flag in flags.split() for name in flag.rstrip("=").split("/")})
    return table


FACTS = facts()


def places(words):
    """[(index of a word that has spellings, its spellings)] and what of the table it covers."""
    found, command, i = [], "", 0
    while i < len(words):
        names, flags = FACTS[command]
        if words[i] in flags:
            found.append((i, flags[words[i]], f"{command} {flags[words[i]][-1]}"))
        elif command == "":
            known = next((c for c, (aliases, _) in FACTS.items() if words[i] in aliases and " " not in c), None)
            if known is not None:
                command = known
                found.append((i, FACTS[known][0], known))
                if known == "help":
                    break
        elif f"{command} {words[i]}" in FACTS and i == found[-1][0] + 1:
            command = f"{command} {words[i]}"
            found.append((i, FACTS[command][0], command))
        i += 1
    return found


def test_every_flag_has_a_row(node):
    covered = {what for row in crictl_table.ROWS for _, _, what in places(shlex.split(row.words))}
    wanted = {c for c in FACTS if c} | {f"{c} {names[-1]}" for c, (_, flags) in FACTS.items() for names in flags.values()}
    helps = {f"{c} --help" for c in FACTS if c}  # not in the table: each command's is called below
    check_equal(sorted(wanted - covered - helps), [], "commands and flags without a row")
    for what, wanted in (("environment", crictl_table.ENVIRONMENT), ("config", crictl_table.CONFIG)):
        seen = {name for row in crictl_table.ROWS for name in getattr(row, what)}
        check_equal(sorted(set(wanted.split()) - seen - {"CRI_CONFIG_FILE"}), [], f"{what} without a row")


def flags_in_help(program, command):
    text = subprocess.run([program, *command.split(), "--help"], capture_output=True, text=True).stdout
    options = text.split("OPTIONS:\n")[-1].splitlines() if "OPTIONS:" in text else []
    heads = [re.split(r"\s{2,}", line.strip())[0].split(" [ ")[0] for line in options if re.match(r" {3}-", line)]
    return {tuple(sorted(re.findall(r"(?:^|, )(--?[\w-]+)", head))) for head in heads}


def test_the_table_is_upstreams(node):
    if not upstream.program():
        raise harness.Skip("CRISP_CRICTL does not name upstream's crictl")
    for command, (_, flags) in FACTS.items():
        if command == "help":
            continue
        ours = {tuple(sorted(names)) for names in flags.values()} | {("--help", "-h")}
        check_equal(sorted(ours), sorted(flags_in_help(upstream.program(), command)), f"flags of {command or 'crictl'}")


class PrivateRegistry:
    """Hands out images to user:secret only."""

    def __init__(self):
        blobs = self.blobs = {}
        wanted = "Basic " + base64.b64encode(b"user:secret").decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                allowed = self.headers.get("Authorization") == wanted
                kind, body = blobs.get(self.path, (None, b"")) if allowed else (None, b"")
                self.send_response(401 if not allowed else 200 if kind or self.path == "/v2/" else 404)
                if not allowed:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.send_header("Content-Type", kind or "text/plain")
                if kind:
                    self.send_header("Docker-Content-Digest", harness.sha256(body))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def push(self, image, name):
        manifest = ("application/vnd.oci.image.manifest.v1+json", image.manifest)
        self.blobs |= {f"/v2/{name}/manifests/latest": manifest, f"/v2/{name}/manifests/{image.digest}": manifest}
        for blob in (image.config, *image.layers):
            self.blobs[f"/v2/{name}/blobs/{harness.sha256(blob)}"] = ("application/octet-stream", blob)
        return f"127.0.0.1:{self.server.server_address[1]}/{name}:latest"


class Objects:
    """What rows name: some things that stand, and some that are made for each run and removed after it."""

    def __init__(self, node, runtime):
        self.node, self.runtime, self.client, self.dir = node, runtime, runtime.client, runtime.dir
        self.private_registry, self.count = PrivateRegistry(), itertools.count()
        os.makedirs(f"{self.dir}/pod-logs/twice")
        harness.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", f"{self.dir}/tls.key",
                    "-out", f"{self.dir}/tls.pem")
        self.config, self.endpoint = f"{self.dir}/crictl.yaml", runtime.endpoint
        self.standing, self.fresh, self.output = {}, {}, ""
        with open(f"{self.dir}/wrong.yaml", "w") as f:
            f.write("runtime-endpoint: unix:///no/such.sock\nmax-retries: 0\n")
        for name in ("image", "again", "other"):
            image = harness.busybox_image(**({"User": "1000"} if name == "other" else {}))
            self.standing[name] = node.registry.push(image, "busybox" if name == "image" else name)
            self.client.PullImage(image={"image": self.standing[name]})
        self.standing["imageid"] = harness.busybox_image().id
        self.pod_config = self._pod_config("web", labels=LABELS)
        self.standing["pod"] = self.client.RunPodSandbox(config=self.pod_config).pod_sandbox_id
        script = "for i in 0 1 2; do echo out $i; echo err $i >&2; done; nc -ll -p 7070 -e /bin/cat & exec sleep 10000"
        self.standing["main"] = self._container("main", script, labels=LABELS)
        self.standing["done"] = self._container("done", "echo hello; echo bye")
        for attempt, name in enumerate(("first", "second")):
            self.standing[name] = self._container("twice", f"echo {name} attempt", metadata={"name": "twice", "attempt": attempt},
                                                  log_path=f"twice/{attempt}.log")
        for name in ("done", "first", "second"):
            self._ended(self.standing[name])
        eventually(lambda: len(open(f"{self.dir}/pod-logs/main.log").readlines()) == 6, "the log is written")
        self.standing["old"] = self.client.RunPodSandbox(config=self._pod_config("old")).pod_sandbox_id
        self.client.StopPodSandbox(pod_sandbox_id=self.standing["old"])
        self.standing["podfile"] = self._file("pod", self._document(self.pod_config))

    # ---- making

    def _pod_config(self, name, **more):
        return cri.pod_config(name, namespace="shop", log_directory=f"{self.dir}/pod-logs", cgroup_parent=self.runtime.cgroup_parent, **more)

    @staticmethod
    def _document(message):
        from google.protobuf import json_format
        return json_format.MessageToDict(message, preserving_proto_field_name=True)

    def _file(self, name, document):
        with open(f"{self.dir}/{name}.json", "w") as f:
            json.dump(document, f)
        return f.name

    def _container(self, name, script, pod=None, start=True, **more):
        config = self._container_config(name, script, **({"labels": {k: v for k, v in LABELS.items() if k != "app"}} | more))
        container = self.client.CreateContainer(pod_sandbox_id=pod or self.standing["pod"], config=config,
                                                sandbox_config=self.pod_config).container_id
        if start:
            self.client.StartContainer(container_id=container)
        return container

    def _container_config(self, name, script, image=None, **more):
        return {"metadata": {"name": name}, "image": {"image": image or self.standing["image"]}, "command": ["/bin/sh", "-c", script],
                "log_path": f"{name}.log", "linux": {"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000,
                                                                  "cpu_quota": 50000, "cpu_shares": 512}}, **more}

    def _ended(self, container):
        eventually(lambda: self.client.ContainerStatus(container_id=container).status.state == 2, "the container ends")

    def _image(self, registry, name):
        return registry.push(harness.busybox_image(Labels={"n": f"{self.dir} {name}"}), name)

    def make(self, kind):
        name = f"{kind}-{next(self.count)}"
        if kind in ("running", "created"):
            return self._container(name, "exec sleep 10000", start=kind == "running")
        if kind == "exited":
            container = self._container(name, "echo gone")
            self._ended(container)
            return container
        if kind in ("reader", "ttyreader"):
            return self._container(name, "read a; echo got $a; exit 0", stdin=True, stdin_once=True, tty=kind == "ttyreader")
        if kind in ("newpod", "stoppedpod"):
            pod = self.client.RunPodSandbox(config=self._pod_config(name)).pod_sandbox_id
            if kind == "stoppedpod":
                self.client.StopPodSandbox(pod_sandbox_id=pod)
            return pod
        if kind == "newpodfile":
            return self._file(name, self._document(self._pod_config(name)))
        if kind == "removable":
            image = self._image(self.node.registry, name)
            self.client.PullImage(image={"image": image})
            return image
        if kind == "private":
            return self._image(self.private_registry, name)
        if kind in ("ctrfile", "missingfile", "privatefile"):
            registry = self.private_registry if kind == "privatefile" else self.node.registry
            image = None if kind == "ctrfile" else self._image(registry, name)
            return self._file(name, self._container_config(name, "exec sleep 10000", image))
        raise KeyError(kind)

    def __getitem__(self, name):
        if name in ("dir", "config", "endpoint"):
            return getattr(self, name)
        if name not in self.standing and name not in self.fresh:
            self.fresh[name] = self.make(name)
        return self.standing.get(name) or self.fresh[name]

    def clean(self):
        """Removes what the run made."""
        eventually(self._cleaned, "what a row made is removed")

    def _cleaned(self):
        try:
            self._clean()
            return True
        except grpc.RpcError as error:
            # containerd 1.6 loses a shim's connection now and then, and removes what it held once it has noticed that.
            if isinstance(self.runtime, peer.Containerd) and re.search("ttrpc: closed|to stop first", error.details()):
                return False
            raise

    def _clean(self):
        kept = set(self.standing.values())
        for container in self.client.ListContainers().containers:
            if container.id not in kept:
                self.client.RemoveContainer(container_id=container.id)
        for pod in self.client.ListPodSandbox().items:
            if pod.id not in kept:
                self.client.StopPodSandbox(pod_sandbox_id=pod.id)
                self.client.RemovePodSandbox(pod_sandbox_id=pod.id)
        self.fresh.clear()

    # ---- looking

    def _id(self, name):
        return re.findall(r"[0-9a-f]{64}", self.output)[-1] if name == "last" else self[name]

    def container_state(self, name):
        state = self.client.ContainerStatus(container_id=self._id(name)).status.state
        return ["CREATED", "RUNNING", "EXITED", "UNKNOWN"][state]

    def pod_state(self, name):
        return ["READY", "NOTREADY"][self.client.PodSandboxStatus(pod_sandbox_id=self._id(name)).status.state]

    def has_container(self, name):
        return self._id(name) in [c.id for c in self.client.ListContainers().containers]

    def has_pod(self, name):
        return self._id(name) in [p.id for p in self.client.ListPodSandbox().items]

    def has_image(self, name):
        return self.client.ImageStatus(image={"image": self[name]}).image.id != ""

    def resources(self, name):
        done = subprocess.run([f"{harness.BUILD}/bin/crispctl", "-r", self.endpoint, "inspect", self[name]], capture_output=True, text=True)
        document = json.loads(done.stdout)
        return (document["status"].get("resources") or {}).get("linux") or self._of_spec(document)

    @staticmethod
    def _of_spec(document):  # containerd 1.6 tells no resources in the status
        cpu, memory = (document["info"]["runtimeSpec"]["linux"]["resources"].get(k, {}) for k in ("cpu", "memory"))
        told = {"cpuQuota": cpu.get("quota"), "cpuShares": cpu.get("shares"), "cpusetCpus": cpu.get("cpus"),
                "cpusetMems": cpu.get("mems"), "memoryLimitInBytes": memory.get("limit")}
        return {k: str(v) for k, v in told.items()}

    def log_of(self, name):
        return any(entry.startswith(name) and "gone" in open(f"{self.dir}/pod-logs/{entry}").read()
                   for entry in os.listdir(f"{self.dir}/pod-logs") if entry != "twice")

    def file(self, name):
        with contextlib.suppress(FileNotFoundError):
            return os.path.getsize(f"{self.dir}/{name}") > 0
        return False

    def setting(self, key):
        with open(self.config) as f:
            return re.search(rf"^{key}: *\"?([^\"\n]*)", f.read(), re.M).group(1)


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


class Table:
    def __init__(self, node, runtime):
        self.runtime, self.objects = runtime, Objects(node, runtime)
        self.ours = f"{runtime.dir}/crictl"
        os.symlink(f"{harness.BUILD}/bin/crispctl", self.ours)
        self.wrong, self.spelt = [], set()

    # ---- calling

    def _write_config(self, more):
        o = self.objects
        settings = {"runtime-endpoint": o.endpoint, "image-endpoint": o.endpoint, "timeout": "60"} | more
        with open(o.config, "w") as f:
            f.writelines(f"{key}: {value}\n" for key, value in settings.items())

    def call(self, program, words, row):
        o = self.objects
        self._write_config(row.config)
        words = [word.format_map(o) for word in words]
        environment = upstream.environment(o.config) | {k: v.format_map(o) for k, v in row.environment.items()}
        live = row.live[self.runtime.name] if isinstance(row.live, dict) else row.live
        if row.terminal:
            return words, self._in_terminal([program, *words], environment, row.stdin)
        if live:
            return words, self._live([program, *words], environment, live)
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=120, env=environment,
                              **({"input": row.stdin} if row.stdin is not None else {"stdin": subprocess.DEVNULL}))
        return words, Done(done.returncode, done.stdout, done.stderr)

    def _in_terminal(self, command, environment, text):
        master, slave = pty.openpty()
        child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment)
        os.close(slave)
        seen = b""
        if text:
            os.write(master, text.encode())
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while select.select([master], [], [], 60)[0] and (piece := os.read(master, 65536)):
                seen += piece
        os.close(master)
        return Done(child.wait(60), seen.decode(errors="replace"), "")

    def _live(self, command, environment, kind):
        """Until it says something; a forwarded port ends by Ctrl-C, what has no end is killed."""
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        seen, until = b"", time.monotonic() + 60
        while time.monotonic() < until:
            if kind == "event":  # nothing tells when it listens
                self.objects.make("created")
            if select.select([child.stdout], [], [], 0.3)[0]:
                piece = os.read(child.stdout.fileno(), 65536)
                seen += piece
                if not piece or len(seen.strip()) > 40:
                    break
        child.send_signal(signal.SIGINT if kind == "forward" else signal.SIGKILL)
        out, err = child.communicate(timeout=60)
        return Done(child.returncode, (seen + out).decode(), err.decode())

    # ---- judging

    def complain(self, what, words, done, program="ours"):
        self.wrong.append(f"{program}: crictl {shlex.join(words)}: {what}\n    stdout: {done.out[-300:]!r}\n    stderr: {done.err[-300:]!r}")

    def judge(self, row, words, done):
        o = self.objects
        o.output = done.out
        wanted = row.code[self.runtime.name] if isinstance(row.code, dict) else row.code
        if wanted is not None and done.code != wanted:
            return self.complain(f"exit code {done.code}, wanted {wanted}", words, done)
        if wanted == 0 or wanted is None:
            for text in row.has:
                if text.format_map(o) not in done.out:
                    self.complain(f"lacks {text.format_map(o)!r}", words, done)
            for text in row.lacks:
                if text.format_map(o) in done.out:
                    self.complain(f"has {text.format_map(o)!r}", words, done)
            try:
                if row.effect and not row.effect(o):
                    self.complain("without the effect", words, done)
            except Exception as e:
                self.complain(f"without the effect: {e!r:.200}", words, done)
        elif row.terminal or "\n  → " in done.err or "Run with --help" in done.err:
            pass
        else:
            self.complain("does not say what to do next", words, done)
        if row.error.format_map(o) not in done.err:
            self.complain(f"stderr lacks {row.error!r}", words, done)

    def form(self, text, how, fresh):
        """stdout in a form that is the same for the same."""
        if how == "json":
            return upstream.still(json.loads(self.form(text, "text", fresh)))
        for kind, value in fresh.items():
            text = text.replace(value, f"<{kind}>").replace(value[:13], f"<{kind}>")
        for standing in self.objects.standing.values():
            text = text.replace(standing, standing[:13])
        text = re.sub(r"[0-9a-f]{64}", "<id>", text)
        return upstream.cells(text) if how == "cells" else text

    def compare(self, row, words):
        o = self.objects
        _, ours = self.call(self.ours, words, row)
        ours_fresh = dict(o.fresh)
        o.clean()
        said, theirs = self.call(upstream.program(), words, row)
        theirs_fresh = dict(o.fresh)
        wanted = row.theirs[self.runtime.name] if row.theirs else ours.code
        if row.code is not None and not row.live and theirs.code != wanted:
            return self.complain(f"exit code {theirs.code}, wanted {wanted}", said, theirs, "upstream")
        if row.same is None or theirs.code != 0 or ours.code != 0:
            return
        try:
            found = list(upstream.differences(self.form(theirs.out, row.same, theirs_fresh), self.form(ours.out, row.same, ours_fresh)))
        except ValueError as e:
            found = [f"  no JSON: {e}: {theirs.out[:100]!r} {ours.out[:100]!r}"]
        if found:
            self.complain("differs from upstream:\n" + "\n".join(found), said, ours)

    # ---- running

    def run(self, row):
        words = shlex.split(row.words)
        found = places(words)
        for i in range(max(len(names) for _, names, _ in found) if found else 1):
            spelling = list(words)
            for at, names, _ in found:
                spelling[at] = names[min(i, len(names) - 1)]
            new = {(what, spelling[at]) for at, _, what in found} - self.spelt
            if i > 0 and not new:
                continue
            self.spelt |= new
            self.judge(row, *self.call(self.ours, spelling, row))
            self.objects.clean()
        if upstream.program() and row.words.split()[-1:] != ["--all"]:
            self.compare(row, words)
            self.objects.clean()

    def run_all(self):
        only = os.environ.get("CRISP_TEST_ROWS", "")
        for row in crictl_table.ROWS:
            if only in row.words:
                self.run(row)
        for command in filter(None, FACTS):
            for flag in ("-h", "--help"):
                _, done = self.call(self.ours, [*command.split(), flag], crictl_table.Row(""))
                if done.code != 0 or len(done.out) < 50:
                    self.complain("no help", [*command.split(), flag], done)
        check(not self.wrong, f"{len(self.wrong)} things are wrong on {self.runtime.name}:\n" + "\n".join(self.wrong))


def run_table(node, runtime):
    Table(node, runtime).run_all()
    runtime.stop()


def test_on_crisp(node):
    run_table(node, peer.Crisp(node))


def test_on_containerd(node):
    run_table(node, peer.Containerd(node))


harness.main()
